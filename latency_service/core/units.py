"""Durations and numbers as people read and write them."""

from __future__ import annotations

import math
import re

_SECONDS = {
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
}
_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([a-zµμ]*)\s*")


def parse_duration(text: str, *, default_unit: str | None = None) -> float:
    """Seconds of a duration such as ``1.2ms``, ``800us``, ``90s``, ``10m`` or ``1h``.

    Args:
        default_unit: unit of a number that has none; without it a unit is required.

    Raises:
        ValueError: it is not a duration above zero.
    """
    match = _DURATION.fullmatch(text)
    unit = (match[2] or default_unit) if match else None
    if match is None or unit not in _SECONDS:
        raise ValueError(f"{text!r} is not a valid duration")
    seconds = float(match[1]) * _SECONDS[unit]
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError(f"{text!r} is not a duration above zero")
    return seconds


def parse_percent(text: str) -> float:
    """The number in ``3%`` or ``3``.

    Raises:
        ValueError: it is not a percentage above 0 and up to 100.
    """
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not 0 < percent <= 100:
        raise ValueError(f"{text!r} is not a percentage above 0 and up to 100")
    return percent


def format_duration(seconds: float) -> str:
    """A duration, such as ``2 min 5 s``."""
    if seconds == 0:
        return "0 s"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def with_interval(value: float, lower: float | None, upper: float | None) -> str:
    """A value and its interval, such as ``4.22 [4.19, 4.27]``: two digits on the half-width, the
    value to the same place. Says so where no interval was stated.
    """
    if lower is None or upper is None:
        return f"{value:,.{places_for(value, 4)}f} [not stated]"
    half = (upper - lower) / 2
    places = places_for(half, 2) if math.isfinite(half) and half > 0 else places_for(value, 4)
    return f"{value:,.{places}f} [{lower:,.{places}f}, {upper:,.{places}f}]"


def places_for(value: float, digits: int) -> int:
    """Decimal places that show that many significant digits."""
    if value == 0:
        return 0
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))
