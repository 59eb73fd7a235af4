"""Pruning methods by their names on the command line: built-in and of other packages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pruning_client.errors import UsageError
from pruning_client.methods import plugins
from pruning_client.methods.base import Method, Widening
from pruning_client.methods.dcp.method import DCP
from pruning_client.methods.dcp.wide import DCPH
from pruning_client.methods.functionality.method import Functionality
from pruning_client.methods.gdp import GDP
from pruning_client.methods.magnitude import Magnitude, Uniform
from pruning_client.methods.meta_pruning.method import MetaPruning
from pruning_client.methods.most_macs import MostMacs
from pruning_client.methods.pfp.method import PFP
from pruning_client.methods.scop import SCOP
from pruning_client.methods.unification.method import WeightUnification
from pruning_client.methods.w_gates import FreeGates, WGates

#: Name of a built-in method, or of one that an installed package has.
MethodName = str
#: Every built-in method with its default options.
METHODS: Mapping[str, Method] = {
    "w-gates": WGates(),
    "free-gates": FreeGates(),
    "gdp": GDP(),
    "scop": SCOP(),
    "meta-pruning": MetaPruning(),
    "dcp": DCP(),
    "dcp-2": DCP(criterion=2),
    "dcph": DCPH(),
    "pfp": PFP(),
    "functionality": Functionality(),
    "weight-unification": WeightUnification(),
    "l1": Magnitude(criterion="l1"),
    "l2": Magnitude(criterion="l2"),
    "bn-scale": Magnitude(criterion="bn-scale"),
    "group-norm": Magnitude(criterion="group-norm"),
    "uniform": Uniform(),
    "most-macs": MostMacs(),
}


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A method with its default options, and where it comes from."""

    name: str
    method: Method
    #: Name and version of the package of the method; None for a built-in one.
    package: str | None = None


def method_of(name: str, **options: Any) -> Method:
    """The method of this name with these options; an option of None is the method's default.

    Raises:
        UsageError: There is no such method, or it has no such option.
        PluginError: The method of another package is broken.
    """
    method = default_method(name)
    given = {option: value for option, value in options.items() if value is not None}
    known = options_of(method)
    for option in given:
        if option not in known:
            raise UsageError(
                f"The method {name!r} has no option {option!r}.",
                f"Its options: {', '.join(known)}." if known else "It has no options.",
            )
    return replace(method, **given)


def default_method(name: str) -> Method:
    """The method of this name with its default options; only its own package is imported.

    Raises:
        UsageError: There is no such method.
        PluginError: The method of another package is broken.
    """
    found = plugins.installed(METHODS)
    if name in METHODS:
        return METHODS[name]
    if name not in found:
        names = ", ".join([*METHODS, *found])
        raise UsageError(f"There is no method {name!r}.", f"Choose one of: {names}.")
    return plugins.load(found[name])


def listed() -> list[Listed]:
    """Every method, built-in ones first. The packages of the others are imported; a broken one is
    left out with a warning.
    """
    found = plugins.installed(METHODS)
    built_in = [Listed(name=name, method=method) for name, method in METHODS.items()]
    others = [
        Listed(name=name, method=method, package=plugins.package_of(found[name][0]))
        for name, method in plugins.load_all(found).items()
    ]
    return built_in + others


def comparable(methods: Iterable[Method]) -> list[Method]:
    """Those that can be compared on one network: the others prune a wider one."""
    return [method for method in methods if not isinstance(method, Widening)]


def options_of(method: Method) -> dict[str, Any]:
    """A method's options and their values."""
    return {field.name: getattr(method, field.name) for field in fields(method)}
