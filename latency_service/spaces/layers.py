"""Weighted layers of a search space, with sizes as functions of the widths: the basis of LPNet's
features and of MAC counts.

A channel count is affine in the widths: ``constant + sum(coefficient[g] * widths[g])``.
The graph is read once, by shape inference at full width; nothing here runs a network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from latency_service.core.arrays import Floats
from latency_service.core.memory import check_memory
from latency_service.spaces.errors import SpaceError
from latency_service.spaces.schemas import Segment
from latency_service.spaces.slicing import SearchSpace
from latency_service.spaces.tensors import attributes
from latency_service.spaces.validation import WEIGHTED

Kind = Literal["conv", "depthwise", "grouped", "transposed", "linear"]


@dataclass(frozen=True, kw_only=True)
class Channels:
    """A number of channels as an affine function of the widths."""

    constant: float
    #: Coefficient of each width group [G].
    coefficients: Floats

    def at(self, widths: Floats) -> Floats:
        """Channels [...] at `widths` [..., G]."""
        return np.asarray(self.constant + widths @ self.coefficients)

    def scaled(self, factor: float) -> Channels:
        """These channels times a constant."""
        return Channels(constant=self.constant * factor, coefficients=self.coefficients * factor)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A weighted layer: a convolution or a linear layer."""

    name: str
    kind: Kind
    #: Channels of the input, of the output, and seen by one filter.
    c_in: Channels
    c_out: Channels
    depth: Channels
    #: Pixels of one image's output and input (1 for linear layers).
    pixels_out: int
    pixels_in: int
    #: Kernel height times kernel width.
    taps: int
    stride: int

    def macs(self, widths: Floats) -> Floats:
        """Multiply-accumulates of one image [...] at `widths` [..., G]."""
        return self.macs_of(self.c_out.at(widths), self.depth.at(widths))

    def macs_of(self, c_out: Floats, depth: Floats) -> Floats:
        """Multiply-accumulates of one image [...] with `c_out` [...] filters that see `depth` [...]
        channels each.
        """
        pixels = self.pixels_in if self.kind == "transposed" else self.pixels_out
        return c_out * depth * (self.taps * pixels)

    def parameters(self, widths: Floats) -> Floats:
        """Weights without biases [...] at `widths` [..., G]."""
        return self.c_out.at(widths) * self.depth.at(widths) * self.taps


#: Layers of the spaces in use: inferring the shapes of a large graph takes a second.
_known: WeakKeyDictionary[SearchSpace, Sequence[Layer]] = WeakKeyDictionary()


def layers(space: SearchSpace) -> Sequence[Layer]:
    """The weighted layers of a space in the order of its graph; found once for each space.

    Raises:
        SpaceError: a layer's weight has too few dimensions, or the shapes at it cannot be inferred.
    """
    known = _known.get(space)
    if known is None:
        known = _known[space] = _find(space)
    return known


def _find(space: SearchSpace) -> Sequence[Layer]:
    shapes = _shapes(space.model)
    slices = {(entry.initializer, entry.axis): entry.segments for entry in space.manifest.slices}
    full = space.full_widths
    weights = {tensor.name: tuple(tensor.dims) for tensor in space.model.graph.initializer}

    def channels(initializer: str, axis: int) -> Channels:
        return _affine(slices.get((initializer, axis)), weights[initializer][axis], full)

    found: list[Layer] = []
    turned = _transposed_weights(space.model, weights)
    for node in space.model.graph.node:
        weight = turned.get(node.input[1], node.input[1]) if len(node.input) > 1 else ""
        if node.op_type not in WEIGHTED or weight not in weights:
            continue
        _check_layer(node, weights[weight], shapes)
        if node.op_type in ("Gemm", "MatMul"):
            found.append(_linear(node, weight, channels, shapes))
        else:
            found.append(_convolution(node, weights[weight], channels, shapes))
    return found


def _check_layer(node: NodeProto, weight: tuple[int, ...], shapes: Mapping[str, list[int]]) -> None:
    """Raise `SpaceError` when the weight has no channels, or a shape at the node is not known."""
    at = f"node {node.name!r} ({node.op_type})"
    least = 2 if node.op_type in ("Gemm", "MatMul") else 3
    if len(weight) < least or min(weight) < 1:
        raise SpaceError(
            f"the weight of {at} has shape {list(weight)}: it needs {least} dimensions, each at "
            "least 1"
        )
    for name in (node.input[0], *node.output[:1]):
        if min(shapes.get(name, [0]), default=0) < 1:
            raise SpaceError(f"the shape at {at} cannot be inferred")


def total_macs(space: SearchSpace, widths: Sequence[int] | Floats) -> Floats:
    """Multiply-accumulates of one image [...] at `widths` [..., G], weighted layers only."""
    at = np.asarray(widths, dtype=np.float64)
    return np.asarray(sum(layer.macs(at) for layer in layers(space)))


def total_parameters(space: SearchSpace, widths: Sequence[int]) -> int:
    """Number of values in all initializers given by shape only, at `widths` [G]."""
    slices: dict[str, dict[int, Channels]] = {}
    dims = {tensor.name: tuple(tensor.dims) for tensor in space.model.graph.initializer}
    for entry in space.manifest.slices:
        affine = _affine(entry.segments, dims[entry.initializer][entry.axis], space.full_widths)
        slices.setdefault(entry.initializer, {})[entry.axis] = affine
    at = np.asarray(widths, dtype=np.float64)
    total = 0.0
    for tensor in space.model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        cuts = slices.get(tensor.name, {})
        total += math.prod(
            float(cuts[a].at(at)) if a in cuts else size for a, size in enumerate(tensor.dims)
        )
    return round(total)


def _transposed_weights(
    model: ModelProto, weights: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """Weight matrices by the name of their transpose, as linear layers on more than two axes are
    exported.
    """
    nodes = [
        node
        for node in model.graph.node
        if node.op_type == "Transpose" and node.input[0] in weights
    ]
    return {node.output[0]: node.input[0] for node in nodes if len(weights[node.input[0]]) == 2}


_ChannelsOf = Callable[[str, int], Channels]


def _linear(
    node: NodeProto, weight: str, channels: _ChannelsOf, shapes: Mapping[str, list[int]]
) -> Layer:
    after = shapes[node.output[0]]
    turned = (
        any(entry.name == "transB" and entry.i for entry in node.attribute)
        or weight != node.input[1]
    )
    c_in = channels(weight, 1 if turned else 0)
    c_out = channels(weight, 0 if turned else 1)
    rows = math.prod(after[1:-1])
    return Layer(
        name=weight,
        kind="linear",
        c_in=c_in,
        c_out=c_out,
        depth=c_in,
        pixels_out=rows,
        pixels_in=rows,
        taps=1,
        stride=1,
    )


def _convolution(
    node: NodeProto, weight: tuple[int, ...], channels: _ChannelsOf, shapes: Mapping[str, list[int]]
) -> Layer:
    name = node.input[1]
    before = shapes[node.input[0]]
    after = shapes[node.output[0]]
    given = attributes(node)
    groups = given.get("group", 1)
    transposed = node.op_type == "ConvTranspose"
    kind: Kind = "transposed" if transposed else "conv"
    c_in = channels(name, 0 if transposed else 1)
    c_out = channels(name, 1 if transposed else 0)
    depth = c_in
    if groups > 1 and transposed:
        # whole groups are removed: output and input channels shrink in proportion, the number of
        # channels in a group is constant
        c_out = c_in.scaled(weight[1] * groups / weight[0])
        depth = Channels(constant=weight[0] / groups, coefficients=np.zeros_like(c_in.coefficients))
    elif groups > 1:
        kind = "depthwise" if weight[1] == 1 else "grouped"
        c_in = c_out.scaled(weight[1] * groups / weight[0])
    return Layer(
        name=name,
        kind=kind,
        c_in=c_in,
        c_out=c_out,
        depth=depth,
        pixels_out=math.prod(after[2:]),
        pixels_in=math.prod(before[2:]),
        taps=math.prod(weight[2:]),
        stride=max(given.get("strides", [1])),
    )


def _affine(segments: Sequence[Segment] | None, size: int, full: Sequence[int]) -> Channels:
    coefficients = np.zeros(len(full))
    constant = 0.0
    if segments is None:
        return Channels(constant=float(size), coefficients=coefficients)
    for segment in segments:
        if segment.group < 0:
            constant += segment.count * segment.repeat
        else:
            coefficients[segment.group] += segment.count * segment.repeat / full[segment.group]
    return Channels(constant=constant, coefficients=coefficients)


def _shapes(model: ModelProto) -> dict[str, list[int]]:
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for entry in fixed.graph.input:
        for dim in entry.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    del fixed.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(fixed, strict_mode=False, data_prop=True)
    except Exception as error:
        check_memory(error)
        raise SpaceError(f"the shapes cannot be inferred: {error}") from error
    graph = inferred.graph
    constants = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    return constants | {
        entry.name: [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
        for entry in [*graph.input, *graph.value_info, *graph.output]
        if entry.type.tensor_type.HasField("shape")
    }
