"""A fitted model as one ONNX file: latency, its gradient and its interval, for any number of
architectures.

Input ``widths [B, G]``; outputs ``latency_ms [B]``, ``gradient [B, G]`` (ms per channel),
``lower_ms [B]``, ``upper_ms [B]``; all float32. The backward pass is written out in ordinary
operators, and all layers and members go through the same few matrix products: one request costs
tens of microseconds in ONNX Runtime.
"""

from __future__ import annotations

from functools import singledispatch
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto
from torch import Tensor

from latency_service.core.arrays import Floats
from latency_service.training.artifact.lookup_tables import Grid, Tables
from latency_service.training.artifact.onnx_builder import Graph
from latency_service.training.artifact.table_operators import WIDTHS, read_tables, slope_of_tables
from latency_service.training.models.baselines import KernelSum
from latency_service.training.models.block_features import BlockFeatures
from latency_service.training.models.kernels import KernelLine
from latency_service.training.models.lpnet import LPNet
from latency_service.training.models.mixtures import Blend, Bottleneck, Constant
from latency_service.training.models.mlp import Mlp


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
    emitted = _emit(model, graph)
    graph.output("latency_ms", emitted.latency)
    graph.output("gradient", emitted.gradient)
    for name, sign in (("lower_ms", -1), ("upper_ms", 1)):
        graph.output(
            name, graph.op("Mul", emitted.latency, graph.constant(np.exp(sign * half_width)))
        )
    return bytes(graph.model(groups).SerializeToString(deterministic=True))


@singledispatch
def _emit(model: object, graph: Graph) -> Emitted:
    """Add the forward and backward pass of `model`."""
    raise TypeError(f"{type(model).__name__} has no gradient and cannot be served")


@_emit.register
def _tables(model: Tables, graph: Graph) -> Emitted:
    read = graph.once(read_tables, model)
    return Emitted(read.latency, slope_of_tables(model.grid, read.entries, graph))


@_emit.register(Blend)
@_emit.register(Bottleneck)
def _mixture(model: Blend | Bottleneck, graph: Graph) -> Emitted:
    """Each part's gradient by its share; tables on the same grid are added up before they are
    differentiated.
    """
    mixed = graph.once(_mixed, model)
    latency = graph.op("Exp", mixed.log)
    entries: dict[Grid, str] = {}
    gradient = ""
    for part, share in mixed.shares.values():
        per_ms = graph.op("Mul", share, latency)
        if isinstance(part, Tables):
            read = graph.once(read_tables, part)
            per_ms = _beside(graph.op("Div", per_ms, read.latency), 2, graph)
            entries[part.grid] = _sum(
                entries.get(part.grid, ""), graph.op("Mul", read.entries, per_ms), graph
            )
        else:
            alone = graph.once(_emit, part)
            per_ms = _beside(graph.op("Div", per_ms, alone.latency), 1, graph)
            gradient = _sum(gradient, graph.op("Mul", alone.gradient, per_ms), graph)
    for grid, summed in entries.items():
        gradient = _sum(gradient, slope_of_tables(grid, summed, graph), graph)
    return Emitted(latency, gradient)


class _Mixed(NamedTuple):
    """Names in the graph: log latency [B], and what it gains by that of each part that is not a
    mixture [B], with the part, by its id.
    """

    log: str
    shares: dict[int, tuple[object, str]]


def _mixed(model: object, graph: Graph) -> _Mixed:
    if isinstance(model, Blend):
        return _blended(model, graph)
    if isinstance(model, Bottleneck):
        return _slower(model, graph)
    latency = (
        graph.once(read_tables, model).latency
        if isinstance(model, Tables)
        else graph.once(_emit, model).latency
    )
    return _Mixed(graph.op("Log", latency), {id(model): (model, graph.constant(1.0))})


def _blended(model: Blend, graph: Graph) -> _Mixed:
    """level + sum of share * log latency."""
    inner = [graph.once(_mixed, one) for one in model.models]
    weights = [graph.constant(share) for share in model.shares]
    log = graph.constant([model.level])
    for one, weight in zip(inner, weights, strict=True):
        log = graph.op("Add", log, graph.op("Mul", one.log, weight))
    return _Mixed(log, _weighted(inner, weights, graph))


def _slower(model: Bottleneck, graph: Graph) -> _Mixed:
    """The softened maximum of log latencies; each gains what its share is of the sum of powers."""
    inner = [graph.once(_mixed, one) for one in model.models]
    sharpness = graph.constant(model.sharpness)
    rows = graph.constant([1], np.int64)
    logs = [
        _beside(graph.op("Add", one.log, graph.constant(factor)), 1, graph)
        for one, factor in zip(inner, model.log_factors, strict=True)
    ]
    raised = graph.op("Mul", graph.op("Concat", *logs, axis=1), sharpness)
    # relative to the highest: the powers of long latencies do not fit into single precision
    highest = graph.op("ReduceMax", raised, axes=[1], keepdims=1)
    powers = graph.op("Exp", graph.op("Sub", raised, highest))
    total = graph.op("ReduceSum", powers, rows)
    summed = graph.op("Div", graph.op("Add", highest, graph.op("Log", total)), sharpness)
    columns = graph.ops("Split", len(logs), graph.op("Div", powers, total), axis=1)
    weights = [graph.op("Squeeze", column, rows) for column in columns]
    return _Mixed(graph.op("Squeeze", summed, rows), _weighted(inner, weights, graph))


def _weighted(
    inner: list[_Mixed], weights: list[str], graph: Graph
) -> dict[int, tuple[object, str]]:
    shares: dict[int, tuple[object, str]] = {}
    for one, weight in zip(inner, weights, strict=True):
        for key, (part, share) in one.shares.items():
            before = shares[key][1] if key in shares else ""
            shares[key] = part, _sum(before, graph.op("Mul", share, weight), graph)
    return shares


def _beside(vector: str, axes: int, graph: Graph) -> str:
    """A vector [B] as [B, 1, ...], to be multiplied with what has `axes` more axes."""
    return graph.op("Unsqueeze", vector, graph.constant(range(1, axes + 1), np.int64))


def _sum(before: str, value: str, graph: Graph) -> str:
    return graph.op("Add", before, value) if before else value


@_emit.register
def _constant(_model: Constant, graph: Graph) -> Emitted:
    gradient = graph.op("Mul", WIDTHS, graph.constant(0.0))
    nothing = graph.op("ReduceSum", gradient, graph.constant([1], np.int64), keepdims=0)
    return Emitted(graph.op("Add", nothing, graph.constant(1.0)), gradient)


@_emit.register
def _kernel_sum(model: KernelSum, graph: Graph) -> Emitted:
    """|x - c|^2 = |x|^2 - 2 x.c + |c|^2; the gradient is latency * sum_i a_i k_i (c_i - x) /
    (length * width).

    In double precision: the weights a_i are large and nearly cancel.
    """

    def constant(values: npt.ArrayLike) -> str:
        return graph.constant(values, np.float64)

    rows = graph.constant([1], np.int64)
    held = graph.op("Max", graph.op("Cast", WIDTHS, to=TensorProto.DOUBLE), constant(model.floor))
    scaled = graph.op("Mul", held, constant(1 / model.full))
    x = graph.op("Mul", graph.op("Log", scaled), constant(1 / model.lengths))
    norm = graph.op("Mul", graph.op("ReduceSum", graph.op("Mul", x, x), rows), constant(-0.5))
    products = graph.op(
        "Gemm", x, constant(model.centres.T), constant(-0.5 * (model.centres**2).sum(1))
    )
    terms = graph.op("Mul", graph.op("Exp", graph.op("Add", products, norm)), constant(model.alpha))
    total = graph.op("ReduceSum", terms, rows)
    column = graph.op("Exp", graph.op("Add", total, constant(model.mean)))
    pull = graph.op(
        "Sub", graph.op("MatMul", terms, constant(model.centres)), graph.op("Mul", total, x)
    )
    gradient = graph.op("Div", graph.op("Mul", pull, constant(1 / model.lengths)), held)
    gradient = graph.op("Cast", graph.op("Mul", gradient, column), to=TensorProto.FLOAT)
    return Emitted(
        graph.op("Cast", graph.op("Squeeze", column, rows), to=TensorProto.FLOAT), gradient
    )


class _Basis:
    """The basis of `parts`: its values [B, L, K + R], and the way back from a slope by them to one
    by the vector.
    """

    def __init__(self, features: BlockFeatures, graph: Graph) -> None:
        index = features.layout.index(count := _columns(features))
        self.features = features
        self.graph = graph
        padded = graph.op(
            "Pad", WIDTHS, graph.constant([0, 0, 0, 1], np.int64), graph.constant(1.0)
        )
        self.values = graph.op("Gather", padded, graph.constant(index, np.int64), axis=1)
        self._from_roles = np.zeros((index.size, count + 1))
        self._from_roles[np.arange(index.size), index.ravel()] = 1.0
        self._to_knots = np.eye(index.shape[1])[:, features.roles]
        ramps = graph.op("MatMul", self.values, graph.constant(self._to_knots))
        self._ramps = graph.op("Relu", graph.op("Sub", ramps, graph.constant(features.knots)))
        self._held = graph.op("Max", self.values, graph.constant(features.floor))
        self.basis = graph.op("Concat", self._ramps, graph.op("Log", self._held), axis=2)

    def back(self, slope: str, *by_value: str) -> str:
        """The gradient [B, D], from slopes by the basis [B, L, K + R] and more by the values
        themselves [B, L, R].
        """
        graph = self.graph
        sizes = self._to_knots.T.shape
        ramps, logs = graph.ops("Split", 2, slope, graph.constant(sizes, np.int64), axis=2)
        ramps = graph.op("Mul", ramps, graph.op("Sign", self._ramps))
        total = graph.op("MatMul", ramps, graph.constant(self._to_knots.T))
        above = graph.op("Greater", self.values, graph.constant(self.features.floor))
        above = graph.op("Cast", above, to=TensorProto.FLOAT)
        for part in (graph.op("Mul", graph.op("Div", logs, self._held), above), *by_value):
            total = graph.op("Add", total, part)
        flat = graph.op("Reshape", total, graph.constant([0, -1], np.int64))
        return graph.op("MatMul", flat, graph.constant(self._from_roles[:, :-1]))


def _columns(features: BlockFeatures) -> int:
    return 1 + max(
        column for part in features.layout.columns for column in part if column is not None
    )


@_emit.register
def _lpnet(model: LPNet, graph: Graph) -> Emitted:
    """Of a network given as parts, its members side by side: size * exp(b + d + a.x + v.tanh(x W +
    c)), summed.
    """
    features = model.features
    p = model.parameters
    if not isinstance(features, BlockFeatures):
        raise TypeError("an LPNet of a graph is served as tables")
    basis = _Basis(features, graph)
    members = len(p.scale)
    linear = _array(p.linear).T
    into = np.concatenate(list(_array(p.weights)), axis=1)
    outputs = np.kron(np.eye(members), np.ones((p.outputs.shape[1], 1))) * _array(
        p.outputs
    ).reshape(-1, 1)
    hidden = graph.op("MatMul", basis.basis, graph.constant(features.matrix @ into))
    hidden = graph.op(
        "Add", hidden, graph.constant(features.offset @ into + _array(p.shifts).ravel())
    )
    hidden = graph.op("Tanh", hidden)
    logs = graph.op("MatMul", basis.basis, graph.constant(features.matrix @ linear))
    logs = graph.op("Add", logs, graph.op("MatMul", hidden, graph.constant(outputs)))
    constant = features.offset @ linear + _array(p.layers).T + _array(p.scale).T - np.log(members)
    per_size = graph.op("Exp", graph.op("Add", logs, graph.constant(constant)))
    sizes, size_slopes = _size(features, basis.values, graph)
    times = graph.op("Mul", per_size, sizes)
    total = graph.op("ReduceSum", times, graph.constant([1, 2], np.int64), keepdims=0)
    latency = graph.op("Add", total, graph.constant(model.overhead))
    pull = graph.op("MatMul", times, graph.constant(outputs.T))
    bent = graph.op("Sub", graph.constant(1.0), graph.op("Mul", hidden, hidden))
    slope = graph.op(
        "MatMul", graph.op("Mul", pull, bent), graph.constant((features.matrix @ into).T)
    )
    slope = graph.op(
        "Add", slope, graph.op("MatMul", times, graph.constant((features.matrix @ linear).T))
    )
    summed = graph.op("ReduceSum", per_size, graph.constant([2], np.int64))
    return Emitted(
        latency, basis.back(slope, *(graph.op("Mul", summed, part) for part in size_slopes))
    )


def _size(features: BlockFeatures, values: str, graph: Graph) -> tuple[str, list[str]]:
    """Names in the graph: the sizes of the parts [B, L, 1], and their slopes by the values [B, L,
    R], to be added.
    """
    roles = features.layout.size
    last = graph.constant([2], np.int64)
    factors = [
        graph.op("Gather", values, graph.constant([role], np.int64), axis=2) for role in roles
    ]
    slopes = []
    for position, role in enumerate(roles):
        chosen = graph.constant(np.eye(len(features.floor))[role])
        others = [factor for other, factor in enumerate(factors) if other != position]
        slopes.append(_product([chosen, *others], graph))
    ones = graph.op("ReduceSum", values, last)
    ones = graph.op("Add", graph.op("Mul", ones, graph.constant(0.0)), graph.constant(1.0))
    return _product([ones, *factors], graph), slopes


def _product(factors: list[str], graph: Graph) -> str:
    total = factors[0]
    for factor in factors[1:]:
        total = graph.op("Mul", total, factor)
    return total


@_emit.register
def _kernel_line(model: KernelLine, graph: Graph) -> Emitted:
    """As `_kernel_sum`, over features and with a line beside it."""
    features = model.features
    basis = _Basis(features, graph)
    rows = graph.constant([1], np.int64)
    flat = graph.op(
        "Squeeze", graph.op("MatMul", basis.basis, graph.constant(features.matrix)), rows
    )
    f = graph.op(
        "Cast", graph.op("Add", flat, graph.constant(features.offset[0])), to=TensorProto.DOUBLE
    )

    def constant(values: npt.ArrayLike) -> str:
        return graph.constant(values, np.float64)

    x = graph.op("Mul", f, constant(1 / model.lengths))
    norm = graph.op("Mul", graph.op("ReduceSum", graph.op("Mul", x, x), rows), constant(-0.5))
    products = graph.op(
        "Gemm", x, constant(model.centres.T), constant(-0.5 * (model.centres**2).sum(1))
    )
    terms = graph.op("Mul", graph.op("Exp", graph.op("Add", products, norm)), constant(model.alpha))
    total = graph.op("ReduceSum", terms, rows)
    line = graph.op("Gemm", f, constant(model.linear[:, None]), constant([model.mean]))
    column = graph.op("Exp", graph.op("Add", total, line))
    pull = graph.op(
        "Sub", graph.op("MatMul", terms, constant(model.centres)), graph.op("Mul", total, x)
    )
    slope = graph.op(
        "Add", graph.op("Mul", pull, constant(1 / model.lengths)), constant(model.linear)
    )
    slope = graph.op("Cast", graph.op("Mul", slope, column), to=TensorProto.FLOAT)
    slope = graph.op(
        "Unsqueeze", graph.op("MatMul", slope, graph.constant(features.matrix.T)), rows
    )
    return Emitted(
        graph.op("Cast", graph.op("Squeeze", column, rows), to=TensorProto.FLOAT), basis.back(slope)
    )


@_emit.register
def _mlp(model: Mlp, graph: Graph) -> Emitted:
    first = _array(model.weights[0]) / model.full[:, None]
    matrices = [first, _array(model.weights[1]), _array(model.weights[2]) * model.scale]
    biases = [
        _array(model.biases[0]),
        _array(model.biases[1]),
        _array(model.biases[2]) * model.scale + model.mean,
    ]
    hidden = [WIDTHS]
    for matrix, bias in zip(matrices[:2], biases[:2], strict=True):
        hidden.append(
            graph.op(
                "Relu", graph.op("Gemm", hidden[-1], graph.constant(matrix), graph.constant(bias))
            )
        )
    last = graph.op("Gemm", hidden[-1], graph.constant(matrices[2]), graph.constant(biases[2]))
    column = graph.op("Exp", last)
    back = graph.op("MatMul", column, graph.constant(matrices[2].T))
    for matrix, active in zip(reversed(matrices[:2]), reversed(hidden), strict=False):
        back = graph.op("Mul", back, graph.op("Sign", active))
        back = graph.op("MatMul", back, graph.constant(matrix.T))
    return Emitted(graph.op("Squeeze", column, graph.constant([1], np.int64)), back)


def _array(tensor: Tensor) -> Floats:
    return np.asarray(tensor.detach().double().numpy())
