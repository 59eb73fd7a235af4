"""`latency-service serve` beyond loopback speaks TLS, and the commands trust its certificate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from latency_service.core.transport import Transport, Unreachable
from tests.support.certificates import NEEDS_OPENSSL, make_certificate
from tests.support.processes import API_TOKEN, Stage, clean_environment, free_port, migrate


@pytest.mark.slow
@NEEDS_OPENSSL
def test_commands_talk_to_it_over_tls_and_nobody_without(stage: Stage, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    migrate(tmp_path, "")
    port = free_port()
    stage.start(
        "serve",
        "serve",
        *("--host", "0.0.0.0", "--port", str(port), "--data-dir", str(tmp_path)),
        LATENCY_SERVICE_API_TOKEN=API_TOKEN,
        **certificate.environment,
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

    stage.eventually(lambda: devices(certificate.file).returncode == 0, "it answers over TLS")
    assert devices(certificate.file).stdout.strip() == "[]"
    assert devices(None).returncode == 5, "nobody vouches for the certificate"
    with Transport(f"http://localhost:{port}", API_TOKEN) as plain, pytest.raises(Unreachable):
        plain.request("GET", "/healthz")
