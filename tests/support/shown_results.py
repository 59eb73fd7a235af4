"""Stand-ins for functions and results that documents show: signatures and names are checked."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Union


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes what `function` takes and returns a stand-in for what it returns."""
    signature = inspect.signature(function)
    returned = typing.get_type_hints(function)["return"]

    def call(*arguments: Any, **options: Any) -> Shown:
        signature.bind(*arguments, **options)
        return Shown(returned)

    return call


class Shown:
    """Has the attributes of a type, each a stand-in in its turn; methods check their arguments."""

    def __init__(self, kind: Any) -> None:
        self._kind = _without_none(kind)

    def __getattr__(self, name: str) -> Any:
        kind = self._kind
        if not inspect.isclass(kind):
            return Shown(Any)
        found = inspect.getattr_static(kind, name, None)
        if inspect.isfunction(found):
            return checked(types.MethodType(found, object()))
        hints = typing.get_type_hints(found.fget if isinstance(found, property) else kind)
        wanted = "return" if isinstance(found, property) else name
        if wanted not in hints:
            raise AttributeError(f"{kind.__name__} has no {name!r}")
        return Shown(hints[wanted])


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (Union, types.UnionType):
        return next(one for one in typing.get_args(kind) if one is not type(None))
    return typing.get_origin(kind) or kind
