"""Pruning methods by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pruning_client.errors import UsageError
from pruning_client.methods.base import Method
from pruning_client.methods.magnitude import Magnitude
from pruning_client.methods.w_gates import FreeGates, WGates

METHODS: Mapping[str, Callable[[], Method]] = {
    "free-gates": FreeGates,
    "l1": Magnitude,
    "uniform": lambda: Magnitude("uniform"),
    "w-gates": WGates,
}


def method_of(name: str) -> Method:
    """The method of this name.

    Raises:
        UsageError: there is none; the cure lists those there are.
    """
    if name not in METHODS:
        raise UsageError(f"There is no method {name!r}.", f"Choose one of: {', '.join(METHODS)}.")
    return METHODS[name]()
