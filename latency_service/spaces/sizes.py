"""Sizes of every tensor of a graph and the work of its layers, in whole numbers of any length.

Shape inference multiplies and copies what a file tells it: sizes overflow, and 24 nodes that join a
shape to itself fill gigabytes. So all sizes are computed here first and judged against limits. What
no rule can tell is left to shape inference: it has no shape here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto

from latency_service.spaces.errors import SpaceError
from latency_service.spaces.size_rules import RULES
from latency_service.spaces.size_values import follow_integers
from latency_service.spaces.structure import MAX_ELEMENTS, MAX_RANK, shown
from latency_service.spaces.tensors import Known, Shape, Tensors, attributes

#: Values of all tensors together that one image makes, and multiply-accumulates of it.
MAX_ACTIVATIONS = 1 << 34
MAX_MACS = 10**14
#: Whole numbers in one tensor that shapes may be computed from, and in all of them.
MAX_INTEGERS = 1 << 16
MAX_ALL_INTEGERS = 1 << 20
#: What a rule raises where shapes contradict each other.
_CONTRADICTIONS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What one image takes."""

    #: Values of all tensors that nodes make, as far as their shapes are known.
    activations: int
    #: Of convolutions and matrix products whose shapes are known.
    macs: int


def measure(model: ModelProto) -> Sizes:
    """Sizes of a graph whose form has been checked, for one image.

    Raises:
        SpaceError: a tensor or the whole goes over a limit, or shapes contradict each other.
    """
    known = _given(model.graph)
    activations = macs = integers = 0
    for node in model.graph.node:
        count, whole = _follow(node, known)
        activations += count
        integers += whole
        macs += macs_of(node, known.shapes)
        check_total("whole numbers that shapes may be made of", integers, MAX_ALL_INTEGERS)
    check_total("values in all its tensors", activations, MAX_ACTIVATIONS)
    check_total("multiply-accumulates for one image", macs, MAX_MACS)
    return Sizes(activations=activations, macs=macs)


def macs_of(node: NodeProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """Multiply-accumulates of a convolution or matrix product; 0 of anything else and where a shape
    is not known.
    """
    known = [shapes.get(name) for name in [*node.input[:2], *node.output[:1]]]
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or None in known:
        return 0
    before, weight, after = (tuple(shape or ()) for shape in known)
    if node.op_type == "Conv":
        return math.prod(after) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(before) * math.prod(weight[1:])
    if node.op_type == "Gemm" and attributes(node).get("transA"):
        return math.prod(after) * before[0]
    return math.prod(after) * before[-1] if before else 0


def check_total(what: str, count: int, limit: int) -> None:
    """Raise `SpaceError` when a count goes over its limit."""
    if count > limit:
        raise SpaceError(f"it has {count} {what}, {limit} are permitted")


def _given(graph: GraphProto) -> Tensors:
    known = Tensors()
    for entry in graph.input:
        dims = entry.type.tensor_type.shape.dim
        known.shapes[entry.name] = tuple(max(1, dim.dim_value) for dim in dims)
    for tensor in graph.initializer:
        known.add_constant(tensor.name, tensor)
    return known


def _follow(node: NodeProto, known: Tensors) -> tuple[int, int]:
    """Add what is known of a node's outputs; how many values they have, and how many of them are
    whole numbers.
    """
    shapes = _outputs(node, known)
    is_whole = node.output[0] in known.integers
    total = 0
    for name, shape in zip(node.output, shapes, strict=False):
        if name and shape is not None:
            known.shapes[name] = shape
            total += _judged(node, shape, MAX_INTEGERS if is_whole else MAX_ELEMENTS)
    return total, total if is_whole else 0


def _outputs(node: NodeProto, known: Tensors) -> Sequence[Known]:
    """Shapes of a node's outputs, as far as they are known."""
    try:
        follow_integers(node, known)
        return RULES[node.op_type](node, known) if node.op_type in RULES else ()
    except _CONTRADICTIONS as error:
        shapes = [list(known.shapes.get(name, ())) for name in node.input]
        raise _error(node, f"cannot work on inputs of shapes {shapes}") from error


def _judged(node: NodeProto, shape: Shape, most: int) -> int:
    """The number of values of an output.

    Raises:
        SpaceError: it is over a limit.
    """
    if len(shape) > MAX_RANK:
        raise _error(node, f"makes a tensor of {len(shape)} dimensions, {MAX_RANK} are permitted")
    if any(size < 0 for size in shape):
        raise _error(node, f"makes a tensor of shape {list(shape)}")
    count = math.prod(shape)
    if count > most:
        raise _error(node, f"makes a tensor of {count} values, {most} are permitted")
    return count


def _error(node: NodeProto, cause: str) -> SpaceError:
    return SpaceError(f"node {shown(node.name)} ({node.op_type}) {cause}")
