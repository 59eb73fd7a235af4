"""Where a network decides: operators that make labels, indices or masks of real numbers.

What follows a decision has no derivative and changes rarely, so that it hides wrong removals. What
a decision is made of is compared instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

#: Operators of a graph that decide.
_DECIDING = frozenset(
    {
        *("ArgMax", "ArgMin", "TopK", "NonZero", "NonMaxSuppression"),
        *("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"),
        *("Cast", "Round", "Floor", "Ceil", "Sign"),
    }
)
#: Functions of torch that decide and return real numbers.
_STEPS = frozenset(
    {"round", "round_", "floor", "floor_", "ceil", "ceil_", "trunc", "trunc_", "sign", "sign_"}
)


class Decisions(TorchFunctionMode):
    """Context that collects what each decision of a forward pass is made of."""

    def __init__(self) -> None:
        super().__init__()
        #: Tensors in the order of the forward pass.
        self.found: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        sources = [x for x in pytree.tree_leaves((args, given)) if _is_real(x)]
        # a function in place changes its source
        is_step = getattr(func, "__name__", "") in _STEPS
        before = [x.clone() for x in sources] if is_step else sources
        made = func(*args, **given)
        decides = sources and any(
            torch.is_tensor(x) and not x.is_floating_point() for x in pytree.tree_leaves(made)
        )
        if decides or is_step:
            self.found += before
        return made


def _is_real(value: Any) -> bool:
    return torch.is_tensor(value) and value.is_floating_point() and value.numel() > 0


def decided_by(graph: ModelProto) -> list[str]:
    """Names of the tensors of a graph that its decisions may be made of."""
    made = dict.fromkeys(_made_by_deciding(graph))
    given = {entry.name for entry in graph.graph.output}
    return [name for name in made if name not in given]


def _made_by_deciding(graph: ModelProto) -> Iterator[str]:
    computed = {name for node in graph.graph.node for name in node.output}
    for node in graph.graph.node:
        if node.op_type in _DECIDING:
            yield from (name for name in node.input if name in computed)
