"""Pruning methods by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pruning_client.errors import UsageError
from pruning_client.methods.base import Method
from pruning_client.methods.magnitude import (
    Magnitude,
    bn_scale_scores,
    even_scores,
    group_norm_scores,
    l2_scores,
)
from pruning_client.methods.most_macs import MostMacs
from pruning_client.methods.w_gates import FreeGates, WGates

METHODS: Mapping[str, Callable[[], Method]] = {
    "bn-scale": lambda: Magnitude(bn_scale_scores),
    "free-gates": FreeGates,
    "group-norm": lambda: Magnitude(group_norm_scores),
    "l1": Magnitude,
    "l2": lambda: Magnitude(l2_scores),
    "most-macs": MostMacs,
    "uniform": lambda: Magnitude(even_scores, allocator="uniform"),
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
