"""Sizes and times as configuration files write them."""

from __future__ import annotations

import re

_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def size_bytes(text: str) -> int:
    """``260m`` of nginx, ``512M`` of systemd, or ``3Gi`` of Kubernetes, in bytes."""
    number, unit = _split(text)
    return int(number * _BYTES[unit.lower().removesuffix("i")])


def seconds(text: str) -> float:
    """``120s`` or ``5min`` in seconds."""
    number, unit = _split(text)
    return number * _SECONDS[unit]


def _split(text: str) -> tuple[float, str]:
    found = re.fullmatch(r"([\d.]+)\s*([A-Za-z]*)", text)
    assert found is not None, text
    return float(found[1]), found[2]
