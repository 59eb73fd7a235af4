"""A fitted model as one ONNX file: latency, its gradient and its interval, for any number of architectures.

Input ``widths [B, G]``; outputs ``latency_ms [B]``, ``gradient [B, G]`` (ms per channel), ``lower_ms [B]``,
``upper_ms [B]``; all float32. The backward pass is written out in ordinary operators, and all layers and members go
through the same few matrix products: one request costs tens of microseconds in ONNX Runtime.
"""

from __future__ import annotations

from functools import singledispatch
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto
from torch import Tensor

from latency_service.training.graph import Graph
from latency_service.training.mlp import Mlp
from latency_service.training.rivals import KernelSum
from latency_service.training.tables import STENCIL, Axis, Tables

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

WIDTHS = "widths"
#: Entries of a table that one prediction reads.
SQUARE = STENCIL * STENCIL


class Emitted(NamedTuple):
    """Names in the graph: latency [B] in ms and its gradient [B, G]."""

    latency: str
    gradient: str


def export(model: object, *, groups: int, half_width: float) -> bytes:
    """The artifact of `model`, its interval ``latency * exp(-+half_width)``.

    Raises:
        TypeError: the kind of model has no gradient.
    """
    graph = Graph()
    emitted = emit(model, graph)
    graph.output("latency_ms", emitted.latency)
    graph.output("gradient", emitted.gradient)
    for name, sign in (("lower_ms", -1), ("upper_ms", 1)):
        graph.output(name, graph.op("Mul", emitted.latency, graph.constant(np.exp(sign * half_width))))
    return bytes(graph.model(groups).SerializeToString(deterministic=True))


@singledispatch
def emit(model: object, graph: Graph) -> Emitted:
    """Add the forward and backward pass of `model` to `graph`."""
    raise TypeError(f"{type(model).__name__} has no gradient and cannot be served")


@emit.register
def _tables(model: Tables, graph: Graph) -> Emitted:
    """All layers side by side: a square of STENCIL x STENCIL entries of each table, weighed along both axes."""
    first, second = model.layer_axes.T
    weighed = _weigh(model.axes, graph, graph.op("Max", WIDTHS, graph.constant(model.floor)))

    def along(axes: Integers, value: str) -> str:
        return graph.op("Gather", value, graph.constant(axes, np.int64), axis=1)

    corner = graph.op("Mul", along(first, weighed.start), graph.constant(model.row, np.int64))
    corner = graph.op("Unsqueeze", graph.op("Add", corner, along(second, weighed.start)), graph.constant([2], np.int64))
    rows = graph.constant(model.first[:, None] + model.row[:, None] * np.arange(STENCIL), np.int64)
    entries = graph.op("Gather", _windows(model.values, graph), graph.op("Add", corner, rows))
    entries = graph.op("Reshape", entries, graph.constant([0, len(first), SQUARE], np.int64))
    weights = along(first, weighed.weights_down)
    halfway = graph.op("Mul", entries, along(second, weighed.weights_across))
    down = graph.op("Mul", halfway, along(first, weighed.slopes_down))
    across = graph.op("Mul", graph.op("Mul", entries, weights), along(second, weighed.slopes_across))

    def summed(value: str, by_layer: Floats, *bias: str) -> str:
        matrix = graph.constant(np.repeat(by_layer, SQUARE, axis=0))
        return graph.op("Gemm", graph.op("Reshape", value, graph.constant([0, -1], np.int64)), matrix, *bias)

    per_cell = np.stack([axis.count.coefficients / axis.cell for axis in model.axes])
    gradient = summed(across, per_cell[second], summed(down, per_cell[first]))
    total = summed(graph.op("Mul", halfway, weights), np.ones((len(first), 1)), graph.constant([model.overhead]))
    latency = graph.op("Squeeze", total, graph.constant([1], np.int64))
    return Emitted(graph.op("Max", latency, graph.constant(model.lowest_ms)), gradient)


def _windows(values: Floats, graph: Graph) -> str:
    """Every run of STENCIL neighbouring values, as rows; the runtime folds it into a constant when it loads."""
    padded = graph.constant(np.append(values, np.zeros(STENCIL - 1))[:, None])
    shifted = [
        graph.op("Slice", padded, *(graph.constant([at], np.int64) for at in (begin, begin + len(values), 0)))
        for begin in range(STENCIL)
    ]
    return graph.op("Concat", *shifted, axis=1)


class _Weighed(NamedTuple):
    """Names in the graph, for every axis: what its position makes each entry of a square weigh, where it is the
    square's first axis (down) or its second (across), the slopes of that by the position in cells, each
    [B, A, SQUARE], and the stencil's first knot [B, A]."""

    weights_down: str
    slopes_down: str
    weights_across: str
    slopes_across: str
    start: str


def _weigh(axes: list[Axis], graph: Graph, widths: str) -> _Weighed:
    sizes = np.array([len(axis.start) for axis in axes])
    per_cell = np.stack([axis.count.coefficients / axis.cell for axis in axes])
    shift = np.array([(axis.count.constant - axis.knots[0]) / axis.cell + 1 for axis in axes])
    position = graph.op("Gemm", widths, graph.constant(per_cell.T), graph.constant(shift))
    cell = graph.op("Min", graph.op("Floor", position), graph.constant(sizes - 1))
    cell = graph.op("Max", cell, graph.constant(0.0))
    row = graph.op("Cast", graph.op("Add", cell, graph.constant(np.cumsum(sizes) - sizes)), to=TensorProto.INT64)
    u = graph.op("Unsqueeze", graph.op("Sub", position, cell), graph.constant([2], np.int64))
    found = graph.op("Gather", graph.constant(np.concatenate([_powers(axis) for axis in axes])), row)
    *lower, value = graph.ops("Split", 4, found, graph.constant([2 * STENCIL] * 4, np.int64), axis=2)
    for part in reversed(lower):
        value = graph.op("Add", graph.op("Mul", value, u), part)
    points = np.eye(STENCIL)
    down, across = np.repeat(points, STENCIL, axis=1), np.tile(points, STENCIL)
    spread = np.concatenate([np.kron(np.eye(2), down), np.kron(np.eye(2), across)], axis=1)
    parts = graph.op("MatMul", value, graph.constant(spread))
    weights_down, slopes_down, weights_across, slopes_across = graph.ops(
        "Split", 4, parts, graph.constant([SQUARE] * 4, np.int64), axis=2
    )
    start = graph.op("Gather", graph.constant(np.concatenate([axis.start for axis in axes]), np.int64), row)
    return _Weighed(weights_down, slopes_down, weights_across, slopes_across, start)


def _powers(axis: Axis) -> Floats:
    """Coefficients of ascending powers of the weights and, beside them, of their slopes [cells, 4 * 2 * STENCIL]."""
    slopes = np.zeros_like(axis.weights)
    slopes[:, :3] = axis.weights[:, 1:] * np.arange(1, 4)[:, None]
    return np.concatenate([axis.weights, slopes], axis=2).reshape(len(slopes), -1)


@emit.register
def _kernel_sum(model: KernelSum, graph: Graph) -> Emitted:
    """|x - c|^2 = |x|^2 - 2 x.c + |c|^2; the gradient is latency * sum_i a_i k_i (c_i - x) / (length * width).

    In double precision: the weights a_i are large and nearly cancel.
    """

    def constant(values: npt.ArrayLike) -> str:
        return graph.constant(values, np.float64)

    rows = graph.constant([1], np.int64)
    held = graph.op("Max", graph.op("Cast", WIDTHS, to=TensorProto.DOUBLE), constant(model.floor))
    scaled = graph.op("Mul", held, constant(1 / model.full))
    x = graph.op("Mul", graph.op("Log", scaled), constant(1 / model.lengths))
    norm = graph.op("Mul", graph.op("ReduceSum", graph.op("Mul", x, x), rows), constant(-0.5))
    products = graph.op("Gemm", x, constant(model.centres.T), constant(-0.5 * (model.centres**2).sum(1)))
    terms = graph.op("Mul", graph.op("Exp", graph.op("Add", products, norm)), constant(model.alpha))
    total = graph.op("ReduceSum", terms, rows)
    column = graph.op("Exp", graph.op("Add", total, constant(model.mean)))
    pull = graph.op("Sub", graph.op("MatMul", terms, constant(model.centres)), graph.op("Mul", total, x))
    gradient = graph.op("Div", graph.op("Mul", pull, constant(1 / model.lengths)), held)
    gradient = graph.op("Cast", graph.op("Mul", gradient, column), to=TensorProto.FLOAT)
    return Emitted(graph.op("Cast", graph.op("Squeeze", column, rows), to=TensorProto.FLOAT), gradient)


@emit.register
def _mlp(model: Mlp, graph: Graph) -> Emitted:
    first = _array(model.weights[0]) / model.full[:, None]
    matrices = [first, _array(model.weights[1]), _array(model.weights[2]) * model.scale]
    biases = [_array(model.biases[0]), _array(model.biases[1]), _array(model.biases[2]) * model.scale + model.mean]
    hidden = [WIDTHS]
    for matrix, bias in zip(matrices[:2], biases[:2], strict=True):
        hidden.append(graph.op("Relu", graph.op("Gemm", hidden[-1], graph.constant(matrix), graph.constant(bias))))
    last = graph.op("Gemm", hidden[-1], graph.constant(matrices[2]), graph.constant(biases[2]))
    column = graph.op("Exp", last)
    back = graph.op("MatMul", column, graph.constant(matrices[2].T))
    for matrix, active in zip(reversed(matrices[:2]), reversed(hidden), strict=False):
        back = graph.op("Mul", back, graph.op("Sign", active))
        back = graph.op("MatMul", back, graph.constant(matrix.T))
    return Emitted(graph.op("Squeeze", column, graph.constant([1], np.int64)), back)


def _array(tensor: Tensor) -> Floats:
    return np.asarray(tensor.detach().double().numpy())
