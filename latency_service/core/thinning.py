"""Figures of long series: as many points as a browser draws at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Value = TypeVar("Value")
#: Most points of a trace; more are thinned before they are sent.
MAX_POINTS = 2000


def thinned(values: Sequence[Value], most: int = MAX_POINTS) -> list[Value]:
    """At most that many of the values, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    step = (len(values) - 1) / (most - 1)
    return [values[round(k * step)] for k in range(most)]
