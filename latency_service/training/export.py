"""A fitted model as one ONNX file: latency, its gradient and its interval, for any number of architectures.

Input ``widths [B, G]``; outputs ``latency_ms [B]``, ``gradient [B, G]`` (ms per channel), ``lower_ms [B]``,
``upper_ms [B]``; all float32. The backward pass is written out in ordinary operators, and all layers and members go
through the same few matrix products: one request costs tens of microseconds in ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto
from torch import Tensor

from latency_service.training.features import Encoding, Spline
from latency_service.training.graph import Graph
from latency_service.training.lpnet import LPNet
from latency_service.training.mlp import Mlp
from latency_service.training.rivals import FlopsLine, KernelSum

Floats = npt.NDArray[np.float64]

WIDTHS = "widths"


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
def _lpnet(model: LPNet, graph: Graph) -> Emitted:
    """See `lpnet` for the formula; Q = members times layers, all side by side."""
    encoding, p = model.encoding, model.parameters
    members, hidden = p.shifts.shape
    layers, code, _ = encoding.matrix.shape
    weights, linear = _array(p.weights), _array(p.linear)
    first = np.einsum("luf,mfh->umlh", encoding.matrix, weights).reshape(code, -1)
    shift = (np.einsum("lf,mfh->mlh", encoding.offset, weights) + _array(p.shifts)[:, None]).reshape(-1)
    direct = np.einsum("luf,mf->uml", encoding.matrix, linear) + encoding.macs_matrix.T[:, None]
    level = np.einsum("lf,mf->ml", encoding.offset, linear) + encoding.macs_offset + _array(p.layers) + _array(p.scale)
    level = level - np.log(members)
    outputs = np.repeat(_array(p.outputs), layers, axis=0)

    encoder = _Encoder(encoding, graph)
    units = graph.op("Tanh", graph.op("Gemm", encoder.code, graph.constant(first), graph.constant(shift)))
    units = graph.op("Reshape", units, graph.constant([0, members * layers, hidden], np.int64))
    strengths = graph.constant(outputs)
    scaled = graph.op("Mul", units, strengths)
    straight = graph.op(
        "Gemm", encoder.code, graph.constant(direct.reshape(code, -1)), graph.constant(level.reshape(-1))
    )
    inner = graph.op("ReduceSum", scaled, graph.constant([2], np.int64), keepdims=0)
    times = graph.op("Exp", graph.op("Add", straight, inner))
    total = graph.op("ReduceSum", times, graph.constant([1], np.int64), keepdims=0)
    latency = graph.op("Add", total, graph.constant(_array(p.overhead.exp()).mean()))

    # d tanh: v (1 - h^2) = v - (v h) h
    slopes = graph.op("Sub", strengths, graph.op("Mul", scaled, units))
    slopes = graph.op("Mul", slopes, graph.op("Unsqueeze", times, graph.constant([2], np.int64)))
    slopes = graph.op("Reshape", slopes, graph.constant([0, -1], np.int64))
    back = graph.op("MatMul", times, graph.constant(direct.reshape(code, -1).T))
    back = graph.op("Gemm", slopes, graph.constant(first.T), back)
    return Emitted(latency, encoder.backward(back))


@emit.register
def _flops_line(model: FlopsLine, graph: Graph) -> Emitted:
    encoder = _Encoder(model.encoding, graph)
    matrix = model.encoding.macs_matrix.T
    scale = np.log(max(abs(model.slope), 1e-30))
    times = graph.op(
        "Exp",
        graph.op("Gemm", encoder.code, graph.constant(matrix), graph.constant(model.encoding.macs_offset + scale)),
    )
    sign = graph.constant(np.sign(model.slope))
    times = graph.op("Mul", times, sign)
    total = graph.op("ReduceSum", times, graph.constant([1], np.int64), keepdims=0)
    line = graph.op("Add", total, graph.constant(model.intercept))
    latency = graph.op("Max", line, graph.constant(model.lowest_ms))
    return Emitted(latency, encoder.backward(graph.op("MatMul", times, graph.constant(matrix.T))))


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


@dataclass(frozen=True, kw_only=True)
class _SplineNames:
    """Names of a spline's parts in the graph."""

    #: position inside the cell [B, G, 1] and the cubic's coefficients [B, G, columns] each
    u: str
    coefficients: list[str]


class _Encoder:
    """The forward pass of an `Encoding`, and its backward pass afterwards."""

    def __init__(self, encoding: Encoding, graph: Graph) -> None:
        self.encoding, self.graph = encoding, graph
        held = graph.op("Max", WIDTHS, graph.constant(encoding.floor))
        self.channels = graph.op(
            "Gemm", held, graph.constant(encoding.coefficients.T), graph.constant(encoding.constant)
        )
        self.code = graph.op("Log", self.channels)
        self.spline: _SplineNames | None = None
        if encoding.spline is not None:
            self.spline = self._locate(encoding.spline, held)
            self.code = graph.op("Concat", self.code, self._value(), axis=1)

    def backward(self, gradient: str) -> str:
        """d latency / d widths [B, G] from d latency / d code [B, U]."""
        graph, encoding = self.graph, self.encoding
        counts = len(encoding.constant)
        if encoding.spline is None or self.spline is None:
            logarithms, excess = gradient, None
        else:
            size = len(encoding.floor) * encoding.spline.columns
            logarithms, excess = graph.ops("Split", 2, gradient, graph.constant([counts, size], np.int64), axis=1)
        widths = graph.op("MatMul", graph.op("Div", logarithms, self.channels), graph.constant(encoding.coefficients))
        if excess is None or encoding.spline is None:
            return widths
        shape = graph.constant([0, len(encoding.floor), encoding.spline.columns], np.int64)
        slopes = graph.op("Mul", graph.op("Reshape", excess, shape), self._slope(encoding.spline.cell))
        return graph.op("Add", widths, graph.op("ReduceSum", slopes, graph.constant([2], np.int64), keepdims=0))

    def _locate(self, spline: Spline, held: str) -> _SplineNames:
        graph = self.graph
        position = graph.op("Mul", held, graph.constant(1 / spline.cell)) if spline.cell > 1 else held
        cell = graph.op("Min", graph.op("Floor", position), graph.constant(spline.last_cell))
        row = graph.op("Cast", graph.op("Add", cell, graph.constant(spline.first_row)), to=TensorProto.INT32)
        table = np.concatenate(list(spline.table), axis=1)
        found = graph.op("Gather", graph.constant(table), row)
        u = graph.op("Unsqueeze", graph.op("Sub", position, cell), graph.constant([2], np.int64))
        parts = graph.ops("Split", 4, found, graph.constant([spline.columns] * 4, np.int64), axis=2)
        return _SplineNames(u=u, coefficients=parts)

    def _value(self) -> str:
        assert self.spline is not None
        value = self._horner(self.spline.coefficients)
        return self.graph.op("Reshape", value, self.graph.constant([0, -1], np.int64))

    def _slope(self, cell: int) -> str:
        assert self.spline is not None
        graph = self.graph
        c1, c2, c3 = (
            graph.op("Mul", part, graph.constant(power / cell))
            for power, part in enumerate(self.spline.coefficients[1:], start=1)
        )
        return self._horner([c1, c2, c3])

    def _horner(self, coefficients: list[str]) -> str:
        assert self.spline is not None
        *lower, value = coefficients
        for part in reversed(lower):
            value = self.graph.op("Add", self.graph.op("Mul", value, self.spline.u), part)
        return value


def _array(tensor: Tensor) -> Floats:
    return np.asarray(tensor.detach().double().numpy())
