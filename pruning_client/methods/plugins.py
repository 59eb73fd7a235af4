"""Methods of other packages, found by their entry points.

A package names its methods in the entry-point group `GROUP`: each entry is a method, or a class or
function that returns one when it is called without arguments (docs/how-to/own-method.md). A package
is imported when its method is asked for or listed, never to print a help page.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import fields, is_dataclass
from importlib import metadata
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from pruning_client.errors import PruningWarning, UsageError, first_line

if TYPE_CHECKING:
    from pruning_client.methods.base import Method

GROUP = "pruning_client.methods"


class PluginError(UsageError):
    """A method of another package cannot be loaded, or does not follow the interface."""

    code = "broken_plugin"


def installed(taken: Collection[str]) -> dict[str, list[EntryPoint]]:
    """Entry points of the installed packages by the name of their method; nothing is imported.

    Args:
        taken: Names of built-in methods. An entry point with such a name is left out with a
            warning, so that a name means the same wherever it is used.
    """
    found: dict[str, list[EntryPoint]] = {}
    for entry in metadata.entry_points(group=GROUP):
        if entry.name in taken:
            _warn(
                f"The method {entry.name!r} of {package_of(entry)} is ignored: the name is that "
                "of a built-in method."
            )
        else:
            found.setdefault(entry.name, []).append(entry)
    return dict(sorted(found.items()))


def load(entries: Sequence[EntryPoint]) -> Method:
    """The method of the entry points of one name, with its default options.

    Raises:
        PluginError: Several packages have the name, or the method cannot be loaded or does not
            follow the interface; the message names the package.
    """
    entry = entries[0]
    if len(entries) > 1:
        packages = " and ".join(sorted(map(package_of, entries)))
        raise PluginError(
            f"The method {entry.name!r} is ambiguous: {packages} have one of that name.",
            "Uninstall one of the packages, or give the method from Python.",
        )
    method = _made(entry)
    fault = _fault(method, entry.name)
    if fault is not None:
        raise PluginError(
            f"The method {entry.name!r} of {package_of(entry)} cannot be used: {fault}.",
            "Tell the authors of the package; pruning_client.testing checks the interface.",
        )
    return method  # type: ignore[no-any-return]


def load_all(found: dict[str, list[EntryPoint]]) -> dict[str, Method]:
    """The methods of the result of `installed`; one that is broken is left out with a warning."""
    methods = {}
    for name, entries in found.items():
        try:
            methods[name] = load(entries)
        except PluginError as error:
            _warn(f"{error.message} {error.cure}")
    return methods


def package_of(entry: EntryPoint) -> str:
    """Name and version of the package of an entry point."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else repr(entry.value)


def _made(entry: EntryPoint) -> Any:
    try:
        loaded = entry.load()
        return loaded() if callable(loaded) else loaded
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"The method {entry.name!r} of {package_of(entry)} cannot be loaded: "
            f"{type(error).__name__}: {first_line(error)}.",
            f"Repair or uninstall the package; it names {entry.value!r}.",
        ) from error


def _fault(method: Any, name: str) -> str | None:
    """What of the interface `Method` an object lacks, or None."""
    if not is_dataclass(method) or isinstance(method, type):
        return f"it is {type(method).__name__}, not an instance of a dataclass"
    if not method.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return f"the dataclass {type(method).__name__} is not frozen"
    if not callable(getattr(method, "run", None)):
        return f"{type(method).__name__} has no run(context)"
    own = getattr(method, "name", None)
    if own != name:
        return f"its name is {own!r}, which differs from that of its entry point"
    hidden = [field.name for field in fields(method) if not field.init]
    return f"its option {hidden[0]!r} cannot be given" if hidden else None


def _warn(text: str) -> None:
    warnings.warn(text, PruningWarning, stacklevel=3)
