"""The two modes of a forward pass: some networks return more, or other things, while they train."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree


@dataclass(frozen=True, kw_only=True)
class Output:
    """Place of a tensor among the outputs of a graph."""

    index: int


def put_into_mode(model: nn.Module, *, training: bool) -> None:
    """Let a model take the way of a mode through its forward pass, in place.

    Norms and all modules without modules inside, such as dropout, stay in eval mode, so that the
    outputs depend on the inputs only.
    """
    model.eval()
    for module in model.modules() if training else ():
        inner = next(module.children(), None) is not None
        module.training = inner and not isinstance(module, nn.modules.batchnorm._NormBase)


@contextlib.contextmanager
def entered_modules(model: nn.Module) -> Iterator[list[str]]:
    """Names of the modules whose forward passes have begun and not ended, innermost last, as they
    are while the block runs; with that of the model itself.
    """
    entered: list[str] = [""]

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: entered.append(name)

    def leave(*_: object) -> None:
        # what a hook returns takes the place of the module's outputs
        entered.pop()

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(enter(name)))
        handles.append(module.register_forward_hook(leave))
    try:
        yield entered
    finally:
        for handle in handles:
            handle.remove()


def register_dataclasses(outputs: Any) -> None:
    """Let torch look into the dataclasses among the outputs of a network, which it takes for
    constants until their classes are registered.
    """
    unknown = {type(leaf) for leaf in pytree.tree_leaves(outputs) if is_dataclass(leaf)}
    for kind in unknown:
        torch.export.register_dataclass(kind)
    if unknown:
        register_dataclasses(outputs)


def structure_of(outputs: Any) -> Any:
    """Outputs of a network with each tensor replaced by its `Output`."""
    leaves, form = pytree.tree_flatten(outputs)
    places = iter(range(len(leaves)))
    return pytree.tree_unflatten(
        [Output(index=next(places)) if torch.is_tensor(leaf) else leaf for leaf in leaves], form
    )
