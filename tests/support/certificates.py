"""Certificates of services that speak TLS."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_OPENSSL = shutil.which("openssl")
NEEDS_OPENSSL = pytest.mark.skipif(_OPENSSL is None, reason="openssl makes the certificate")


@dataclass(frozen=True)
class Certificate:
    """A certificate of localhost that signs itself, and its key: PEM files."""

    file: Path
    key: Path

    @property
    def environment(self) -> dict[str, str]:
        """The settings with which a service speaks TLS."""
        return {
            "LATENCY_SERVICE_TLS_CERTIFICATE": str(self.file),
            "LATENCY_SERVICE_TLS_KEY": str(self.key),
        }


def make_certificate(folder: Path) -> Certificate:
    made = Certificate(folder / "cert.pem", folder / "key.pem")
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
    files = ["-keyout", str(made.key), "-out", str(made.file)]
    subprocess.run([str(_OPENSSL), *words, *names, *files], check=True, capture_output=True)
    return made
