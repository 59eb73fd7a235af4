"""The latency budget: a duration, or a share of the dense network's measured latency."""

from __future__ import annotations

import math
from dataclasses import dataclass

from latency_service.core.units import parse_duration
from pruning_client.errors import UsageError

_CURE = (
    'Give a duration ("1.2ms", "800us", "0.0012s") or a share of the dense network\'s '
    'latency ("60%").'
)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A latency budget; exactly one of the two fields is set."""

    #: milliseconds
    absolute_ms: float | None = None
    #: share of the dense network's measured latency, 0 to 1
    share: float | None = None

    def in_ms(self, dense_ms: float) -> float:
        """The budget in milliseconds for this measured latency of the dense network."""
        if self.absolute_ms is not None:
            return self.absolute_ms
        return dense_ms * float(self.share or 0)


def parse_budget(value: float | str) -> Budget:
    """Milliseconds as a number, or a text: a duration with its unit, or a percentage.

    Raises:
        UsageError: it is not a valid budget, or not above zero.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise UsageError(f"{value!r} is not a valid budget.", _CURE)
    if not isinstance(value, str):
        return Budget(absolute_ms=_positive(float(value), str(value)))
    if value.strip().endswith("%"):
        return Budget(share=_share(value))
    try:
        return Budget(absolute_ms=1000 * parse_duration(value))
    except ValueError as error:
        raise UsageError(f"{error}.", _CURE) from error


def budget_text(value: float | str) -> str:
    """The budget as a text that `parse_budget` reads as the same budget."""
    return value if isinstance(value, str) else f"{float(value)!r}ms"


def _share(text: str) -> float:
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError as error:
        raise UsageError(f"{text!r} is not a valid percentage.", _CURE) from error
    return _positive(percent, text) / 100


def _positive(number: float, text: str) -> float:
    if not math.isfinite(number) or number <= 0:
        raise UsageError(f"A budget of {text} is not above zero.", _CURE)
    return number
