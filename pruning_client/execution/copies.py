"""Copies of a user's network that share nothing with it, whatever it keeps of its last forward
pass.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from pruning_client.errors import ModelError, first_line
from pruning_client.execution.interception import Interception

_Network = TypeVar("_Network", bound=nn.Module)
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def copied(model: _Network, shared: Iterable[Tensor] = ()) -> _Network:
    """A deep copy of a network.

    Networks may keep tensors with a history, which torch does not copy: features of the last
    forward pass, or weights that a hook computes from others. The copy has their values. Hooks that
    refer to the network, or to what it keeps, refer to the copy.

    Args:
        shared: Tensors that are not copied.

    Raises:
        ModelError: A module keeps something that cannot be copied; the message names it.
    """
    memo: dict[int, Any] = {id(tensor): tensor for tensor in shared}
    try:
        with _WithoutHistory():
            twin = copy.deepcopy(model, memo)
    except Exception as error:
        raise ModelError(
            f"{_uncopied(model)} cannot be copied: {first_line(error)}.",
            "Keep it outside the network, or give its class a __deepcopy__.",
        ) from error
    for module in twin.modules():
        for name, value in vars(module).items():
            if isinstance(value, types.FunctionType):
                module.__dict__[name] = _bound_to_copy(value, memo)
            elif name in _HOOKS:
                for key, hook in value.items():
                    value[key] = _bound_to_copy(hook, memo)
    return twin


def _uncopied(model: nn.Module) -> str:
    """The first attribute of a module that cannot be copied."""
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute != "_modules":
                try:
                    with _WithoutHistory():
                        copy.deepcopy(value)
                except Exception:  # noqa: BLE001 it is this one
                    path = f"{name}.{attribute}" if name else attribute
                    return f"{path!r} ({type(value).__name__}) of {type(model).__name__}"
    return type(model).__name__


class _WithoutHistory(Interception):
    """Context in which the deep copy of a tensor with a history has its values only."""

    def call(self, function: Callable[..., Any], args: Sequence[Any], given: dict[str, Any]) -> Any:
        if function is Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[0].detach().clone()
        return function(*args, **given)


def _bound_to_copy(function: Any, memo: dict[int, Any]) -> Any:
    """A function that refers to what a copied network holds in place of the original's."""
    if not isinstance(function, types.FunctionType):
        return function
    known = function.__globals__
    renamed = {
        name: memo[id(known[name])]
        for name in function.__code__.co_names
        if id(known.get(name)) in memo
    }
    if not renamed and not function.__closure__:
        return function
    twin = types.FunctionType(
        function.__code__,
        {**known, **renamed} if renamed else known,
        function.__name__,
        function.__defaults__,
        tuple(types.CellType(*_content(cell, memo)) for cell in function.__closure__ or ()),
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__dict__.update(function.__dict__)
    return twin


def _content(cell: types.CellType, memo: dict[int, Any]) -> tuple[Any, ...]:
    """The content of a cell of a closure for a copied network; nothing for an empty cell."""
    try:
        value = cell.cell_contents
    except ValueError:
        return ()
    if isinstance(value, (list, dict, set)):
        # the user's own collection of features
        memo.setdefault(id(value), copy.copy(value))
    return (memo.get(id(value), value),)
