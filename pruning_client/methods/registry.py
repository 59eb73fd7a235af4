"""Pruning methods by their names on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Literal

from pruning_client.errors import UsageError
from pruning_client.methods.base import Method
from pruning_client.methods.dcp.method import DCP
from pruning_client.methods.dcp.wide import DCPH
from pruning_client.methods.magnitude import Magnitude, Uniform
from pruning_client.methods.most_macs import MostMacs
from pruning_client.methods.w_gates import FreeGates, WGates

MethodName = Literal[
    "w-gates",
    "free-gates",
    "dcp",
    "dcp-2",
    "dcph",
    "l1",
    "l2",
    "bn-scale",
    "group-norm",
    "uniform",
    "most-macs",
]
#: Every method with its default options.
METHODS: Mapping[str, Method] = {
    "w-gates": WGates(),
    "free-gates": FreeGates(),
    "dcp": DCP(),
    "dcp-2": DCP(criterion=2),
    "dcph": DCPH(),
    "l1": Magnitude(criterion="l1"),
    "l2": Magnitude(criterion="l2"),
    "bn-scale": Magnitude(criterion="bn-scale"),
    "group-norm": Magnitude(criterion="group-norm"),
    "uniform": Uniform(),
    "most-macs": MostMacs(),
}


def method_of(name: str, **options: Any) -> Method:
    """The method of this name with these options; an option of None is the method's default.

    Raises:
        UsageError: There is no such method, or it has no such option.
    """
    if name not in METHODS:
        raise UsageError(f"There is no method {name!r}.", f"Choose one of: {', '.join(METHODS)}.")
    method = METHODS[name]
    given = {option: value for option, value in options.items() if value is not None}
    known = options_of(method)
    for option in given:
        if option not in known:
            raise UsageError(
                f"The method {name!r} has no option {option!r}.",
                f"Its options: {', '.join(known)}." if known else "It has no options.",
            )
    return replace(method, **given)


def options_of(method: Method) -> dict[str, Any]:
    """A method's options and their values."""
    return {field.name: getattr(method, field.name) for field in fields(method)}
