"""`latency-service serve` beyond loopback speaks TLS, and the commands trust its certificate."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from latency_service.core.transport import Transport, Unreachable
from tests.support.processes import API_TOKEN, Stage, clean_environment, free_port, migrate

OPENSSL = shutil.which("openssl")


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of localhost that signs itself, and its key."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([str(OPENSSL), *words, *names, *files], check=True, capture_output=True)
    return certificate, key


@pytest.mark.slow
@pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificate")
def test_commands_talk_to_it_over_tls_and_nobody_without(stage: Stage, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    migrate(tmp_path, "")
    port = free_port()
    stage.start(
        "serve",
        "serve",
        *("--host", "0.0.0.0", "--port", str(port), "--data-dir", str(tmp_path)),
        LATENCY_SERVICE_API_TOKEN=API_TOKEN,
        LATENCY_SERVICE_TLS_CERTIFICATE=str(certificate),
        LATENCY_SERVICE_TLS_KEY=str(key),
    )
    environment = clean_environment(LATENCY_SERVICE_TOKEN=API_TOKEN)

    def devices(trusted: Path | None) -> subprocess.CompletedProcess[str]:
        trust = {"SSL_CERT_FILE": str(trusted)} if trusted else {}
        words = ["devices", "list", "--json", "--server", f"https://localhost:{port}"]
        return subprocess.run(
            [sys.executable, "-m", "latency_service", *words],
            env=environment | trust,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    stage.eventually(lambda: devices(certificate).returncode == 0, "it answers over TLS")
    assert devices(certificate).stdout.strip() == "[]"
    assert devices(None).returncode == 5, "nobody vouches for the certificate"
    with Transport(f"http://localhost:{port}", API_TOKEN) as plain, pytest.raises(Unreachable):
        plain.request("GET", "/healthz")
