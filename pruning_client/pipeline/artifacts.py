"""What a job leaves behind: the ONNX file, the compact checkpoint, report.json and report.html."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import time
from collections.abc import Iterator
from importlib import metadata

ONNX = "pruned.onnx"
#: fp32 file beside an int8 one
FLOAT_ONNX = "pruned-fp32.onnx"
CHECKPOINT = "pruned.safetensors"
REPORT = "report.json"
PAGE = "report.html"
_PACKAGES = ("latency-service", "torch", "onnx", "onnxruntime", "onnxscript", "numpy")


def digest(data: bytes) -> str:
    """The first digits of a file's SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of what decides the result."""
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }


class Stopwatch:
    """Wall seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = round(
                self.seconds.get(phase, 0.0) + time.monotonic() - started, 3
            )
