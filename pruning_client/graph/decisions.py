"""Where a network decides: operators that make labels, indices or masks of real numbers.

What follows a decision has no derivative and changes rarely, so that it hides wrong removals. What
a decision is made of is compared instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor
from torch.utils import _pytree as pytree

from pruning_client.execution.interception import Interception
from pruning_client.graph.modules import WEIGHTED

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


class Decisions(Interception):
    """Context that collects what each decision of a forward pass is made of."""

    def __init__(self) -> None:
        super().__init__()
        #: Tensors in the order of the forward pass.
        self.found: list[Tensor] = []

    def call(self, function: Callable[..., Any], args: Sequence[Any], given: dict[str, Any]) -> Any:
        sources = [x for x in pytree.tree_leaves((args, given)) if _is_real(x)]
        # a function in place changes its source
        is_step = getattr(function, "__name__", "") in _STEPS
        before = [x.clone() for x in sources] if is_step else sources
        made = function(*args, **given)
        decides = sources and any(
            torch.is_tensor(x) and not x.is_floating_point() for x in pytree.tree_leaves(made)
        )
        if decides or is_step:
            self.found += before
        return made


def _is_real(value: Any) -> bool:
    return torch.is_tensor(value) and value.is_floating_point() and value.numel() > 0


def decided_by(graph: ModelProto) -> list[str]:
    """Names of the tensors of a graph that decisions behind the last layers may be made of.

    Those before have channels that can be removed, and what follows them shows in the outputs.
    """
    makers = {name: node for node in graph.graph.node for name in node.output}
    waiting = [entry.name for entry in graph.graph.output]
    outputs = frozenset(waiting)
    seen = set(waiting)
    found: dict[str, None] = {}
    while waiting:
        node = makers.get(waiting.pop())
        if node is None or node.op_type in WEIGHTED:
            continue
        before = [name for name in dict.fromkeys(node.input) if name in makers]
        if node.op_type in _DECIDING:
            found |= dict.fromkeys(name for name in before if name not in outputs)
        new = [name for name in before if name not in seen]
        waiting += new
        seen.update(new)
    return list(found)
