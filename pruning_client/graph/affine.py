"""Scales and shifts by constants per channel, such as batch norms that are frozen into buffers.

A shift makes something of the zeros of a closed gate, so that gates belong behind it. They can be
put there where scale and shift are a module of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from onnx import NodeProto
from torch import nn

from pruning_client.graph.flow import Flow
from pruning_client.graph.labels import FIXED, Atoms

_SCALES = ("Mul", "Div")
SHIFTS = ("Add", "Sub", "BatchNormalization")
#: Operators of one input that make something else of zeros.
FROM_ZERO = (
    "Acos",
    "BitwiseNot",
    "Cos",
    "Cosh",
    "Exp",
    "Hardmax",
    "HardSigmoid",
    "Log",
    "LogSoftmax",
    "Not",
    "Reciprocal",
    "ReduceLogSumExp",
    "Sigmoid",
    "Softmax",
    "Softplus",
)

#: Operators that may do so by a constant.
CHOICES = ("Clip", "Max", "Min", "Where")


@dataclass(frozen=True, kw_only=True)
class Affine:
    """A node that scales or shifts each channel by values that do not depend on the input."""

    node: NodeProto
    #: Parameters and buffers that the values are computed from.
    tensors: list[str]
    #: Name of the innermost module that holds all of them.
    owner: str
    #: Axis of the channels in the node's output, counted from the front.
    axis: int
    #: Atoms of that axis [P].
    atoms: Atoms

    @property
    def shifts(self) -> bool:
        return self.node.op_type in SHIFTS


def affines(flow: Flow, model: nn.Module) -> Iterator[Affine]:
    """Scales and shifts of a graph, in its order."""
    sources = sources_of(flow, model)
    for node in flow.model.graph.node:
        names = [name for name in node.input if name]
        if all(name in sources for name in names):
            continue
        tensors = sorted(set().union(*(sources.get(name, set()) for name in names)))
        moving = [name for name in names if name not in sources]
        if tensors and len(moving) == 1 and node.op_type in (*_SCALES, *SHIFTS):
            axis = _channel_axis(flow, node, next(name for name in names if name in sources))
            if axis is not None:
                atoms = flow.of(node.output[0])[axis]
                owner = common_module(tensors)
                yield Affine(node=node, tensors=tensors, owner=owner, axis=axis, atoms=atoms)


def sources_of(flow: Flow, model: nn.Module) -> dict[str, set[str]]:
    """Parameters and buffers that each tensor is computed from, of those that do not depend on the
    input.
    """
    held = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    held |= {name for name, _ in model.named_buffers(remove_duplicate=False)}
    sources = {name: {name} & held for name in flow.tensors}
    for node in flow.model.graph.node:
        names = [name for name in node.input if name]
        if all(name in sources for name in names):
            merged = set().union(*(sources[name] for name in names))
            sources |= dict.fromkeys(node.output, merged)
    return sources


def stands_alone(module: nn.Module) -> bool:
    """Whether a module has no modules inside, so that its output is that of its own operators."""
    return next(module.children(), None) is None


def _channel_axis(flow: Flow, node: NodeProto, constant: str) -> int | None:
    """Axis of the output along which a constant operand has a value per channel."""
    out = flow.of(node.output[0])
    if node.op_type == "BatchNormalization":
        return 1
    values = flow.of(constant)
    lead = len(out) - len(values)
    axes = [axis + lead for axis, atoms in enumerate(values) if len(atoms) > 1]
    if len(axes) > 1:
        # an embedding of pixels has other values at each
        axes = [axis for axis in axes if flow.is_free(out[axis])]
    alone = len(axes) == 1 and not (out[axes[0]] == FIXED).all()
    return axes[0] if alone else None


def common_module(tensors: Iterable[str]) -> str:
    """Name of the innermost module that holds all of some tensors."""
    paths = [name.split(".")[:-1] for name in tensors]
    common = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    return ".".join(parts[0] for parts in common)
