"""Numbers and times as pages write them."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite

from latency_service.core.units import format_duration, places_for

#: Seconds of a unit of time, its name, and up to how many of them it is used.
_AGES = ((60.0, "s", 1.0), (3600.0, "min", 60.0), (48 * 3600.0, "h", 3600.0))
_DAY = 86_400.0
NONE = "–"


def number(value: float | None, digits: int = 3) -> str:
    """A number with that many significant digits and no exponent; a dash for None."""
    if value is None or not isfinite(value):
        return NONE
    return f"{value:,.{places_for(value, digits)}f}"


def count(value: int | None) -> str:
    """A whole number with commas between thousands."""
    return NONE if value is None else f"{value:,}"


def share(part: float, whole: float) -> str:
    """A part in per cent of the whole, without decimals."""
    return f"{100 * part / whole:.0f} %" if whole else NONE


def duration(seconds: float | None) -> str:
    """A duration, such as ``2 min 5 s``."""
    if seconds is None or not isfinite(seconds):
        return NONE
    return format_duration(seconds)


def age(moment: datetime, now: datetime | None = None) -> str:
    """How long ago a moment was, such as ``3 min ago``."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < 0:
        return f"in {_rough(-seconds)}"
    return "just now" if seconds < 2 else f"{_rough(seconds)} ago"


def instant(moment: datetime) -> str:
    """A moment in UTC, to the second."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def short_runtime(key: str) -> str:
    """A runtime's key without the words that all have, such as ``CPU/t1/b1/fp32``."""
    return key.replace("ExecutionProvider/", "/")


def middle(text: str, length: int = 28) -> str:
    """A long name cut in its middle: beginnings are often the same."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"


def _rough(seconds: float) -> str:
    for limit, unit, size in _AGES:
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / _DAY:.0f} days"
