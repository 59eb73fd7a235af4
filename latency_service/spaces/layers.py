"""What each layer of a search space computes, as a function of the widths: the basis of LPNet's features and of MACs.

The channels on an axis are affine in the widths: ``constant + sum(coefficient[g] * widths[g])``. The graph is read
once, by shape inference at full width; nothing here runs a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, helper

from latency_service.spaces.schemas import Segment
from latency_service.spaces.slicing import SearchSpace, SpaceError

Floats = npt.NDArray[np.float64]
Kind = Literal["conv", "depthwise", "grouped", "transposed", "linear"]


@dataclass(frozen=True, kw_only=True)
class Channels:
    """A number of channels as an affine function of the widths."""

    constant: float
    #: one coefficient for each width group [G]
    coefficients: Floats

    def at(self, widths: Floats) -> Floats:
        """Channels [...] at `widths` [..., G]."""
        return np.asarray(self.constant + widths @ self.coefficients)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution or a linear layer: the operators that multiply by weights."""

    name: str
    kind: Kind
    #: channels of its input, of its output, and seen by one filter
    c_in: Channels
    c_out: Channels
    depth: Channels
    #: pixels of one image's output and input (1 for linear layers)
    pixels_out: int
    pixels_in: int
    #: kernel height times kernel width
    taps: int
    stride: int

    def macs(self, widths: Floats) -> Floats:
        """Multiply-accumulates of one image [...] at `widths` [..., G]."""
        pixels = self.pixels_in if self.kind == "transposed" else self.pixels_out
        return self.c_out.at(widths) * self.depth.at(widths) * (self.taps * pixels)

    def parameters(self, widths: Floats) -> Floats:
        """Weights without biases [...] at `widths` [..., G]."""
        return self.c_out.at(widths) * self.depth.at(widths) * self.taps


def layers(space: SearchSpace) -> list[Layer]:
    """The weighted layers of a space in the order of its graph.

    Raises:
        SpaceError: shape inference does not reach a layer.
    """
    shapes = _shapes(space.model)
    slices = {(entry.initializer, entry.axis): entry.segments for entry in space.manifest.slices}
    full = space.full_widths
    weights = {tensor.name: tuple(tensor.dims) for tensor in space.model.graph.initializer}

    def channels(initializer: str, axis: int) -> Channels:
        return _affine(slices.get((initializer, axis)), weights[initializer][axis], full)

    found: list[Layer] = []
    for node in space.model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or node.input[1] not in weights:
            continue
        if node.input[0] not in shapes or node.output[0] not in shapes:
            raise SpaceError(f"the shape at node {node.name!r} ({node.op_type}) cannot be inferred")
        found.append(_layer(node, channels, shapes, weights[node.input[1]]))
    return found


def total_macs(space: SearchSpace, widths: Sequence[int] | Floats) -> Floats:
    """Multiply-accumulates of one image [...] at `widths` [..., G], weighted layers only."""
    at = np.asarray(widths, dtype=np.float64)
    return np.asarray(sum(layer.macs(at) for layer in layers(space)))


def total_parameters(space: SearchSpace, widths: Sequence[int]) -> int:
    """Values in all initializers that are given by shape, at `widths` [G]."""
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
        total += np.prod([cuts[a].at(at) if a in cuts else size for a, size in enumerate(tensor.dims)])
    return round(total)


def _layer(node: NodeProto, channels: Any, shapes: Mapping[str, list[int]], weight: tuple[int, ...]) -> Layer:
    name, before, after = node.input[1], shapes[node.input[0]], shapes[node.output[0]]
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if node.op_type in ("Gemm", "MatMul"):
        out_axis = 0 if attributes.get("transB") else 1
        rows = int(np.prod(after[1:-1])) if len(after) > 2 else 1
        return Layer(
            name=name, kind="linear", c_in=channels(name, 1 - out_axis), c_out=channels(name, out_axis),
            depth=channels(name, 1 - out_axis), pixels_out=rows, pixels_in=rows, taps=1, stride=1,
        )  # fmt: skip
    groups = int(attributes.get("group", 1))
    transposed = node.op_type == "ConvTranspose"
    out_axis, depth_axis = (1, 0) if transposed else (0, 1)
    kind: Kind = "transposed" if transposed else "conv"
    c_out, depth = channels(name, out_axis), channels(name, depth_axis)
    c_in = depth
    if groups > 1:
        kind = "depthwise" if weight[1] == 1 and not transposed else "grouped"
        # a grouped convolution loses whole groups: its input shrinks in the same proportion as its output
        ratio = weight[depth_axis] * (1 if transposed else groups) / weight[out_axis]
        if not transposed:
            c_in = Channels(constant=c_out.constant * ratio, coefficients=c_out.coefficients * ratio)
    return Layer(
        name=name, kind=kind, c_in=c_in, c_out=c_out, depth=depth,
        pixels_out=int(np.prod(after[2:])), pixels_in=int(np.prod(before[2:])),
        taps=int(np.prod(weight[2:])), stride=int(max(attributes.get("strides", [1]))),
    )  # fmt: skip


def _affine(segments: Sequence[Segment] | None, size: int, full: Sequence[int]) -> Channels:
    coefficients, constant = np.zeros(len(full)), 0.0
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
    inferred = onnx.shape_inference.infer_shapes(fixed, strict_mode=False, data_prop=True)
    graph = inferred.graph
    return {
        entry.name: [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
        for entry in [*graph.input, *graph.value_info, *graph.output]
        if entry.type.tensor_type.HasField("shape")
    }
