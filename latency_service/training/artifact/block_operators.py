"""ONNX operators of the block features: their basis, its backward pass, and the blocks' sizes."""

from __future__ import annotations

from functools import reduce

import numpy as np
from onnx import TensorProto

from latency_service.core.arrays import Floats, Ints
from latency_service.training.artifact.emission import WIDTHS
from latency_service.training.artifact.onnx_builder import Graph
from latency_service.training.models.block_features import BlockFeatures


class BlockBasis:
    """The basis of block features in a graph: forward when made, backward by `vector_gradient`.

    `values` names the roles' values [B, L, R], `basis` the basis [B, L, K + R].
    """

    def __init__(self, features: BlockFeatures, graph: Graph) -> None:
        count = _column_count(features)
        index = features.layout.index(count)
        self.features = features
        self.graph = graph
        padding = graph.axes(0, 0, 0, 1)
        padded = graph.op("Pad", WIDTHS, padding, graph.constant(1.0))
        self.values = graph.op("Gather", padded, graph.constant(index, np.int64), axis=1)
        self._columns_of_roles = _selection(index, count)
        self._to_knots = np.eye(index.shape[1])[:, features.roles]
        self._ramps = self._add_ramps()
        self._held = graph.maximum(self.values, graph.constant(features.floor))
        self.basis = graph.op("Concat", self._ramps, graph.log(self._held), axis=2)

    def vector_gradient(self, slope: str, *by_value: str) -> str:
        """The gradient by the vector [B, D].

        Args:
            slope: derivative by the basis [B, L, K + R].
            by_value: further derivatives, by the roles' values [B, L, R].
        """
        graph = self.graph
        sizes = self._to_knots.T.shape
        ramps, logs = graph.ops("Split", 2, slope, graph.axes(*sizes), axis=2)
        total = self._ramp_gradient(ramps)
        for term in (self._log_gradient(logs), *by_value):
            total = graph.add(total, term)
        flat = graph.op("Reshape", total, graph.axes(0, -1))
        return graph.matmul(flat, graph.constant(self._columns_of_roles))

    def _add_ramps(self) -> str:
        graph = self.graph
        values = graph.matmul(self.values, graph.constant(self._to_knots))
        return graph.op("Relu", graph.sub(values, graph.constant(self.features.knots)))

    def _ramp_gradient(self, slope: str) -> str:
        active = self.graph.mul(slope, self.graph.op("Sign", self._ramps))
        return self.graph.matmul(active, self.graph.constant(self._to_knots.T))

    def _log_gradient(self, slope: str) -> str:
        graph = self.graph
        above = graph.op("Greater", self.values, graph.constant(self.features.floor))
        return graph.mul(graph.div(slope, self._held), graph.cast(above, TensorProto.FLOAT))


def block_sizes(features: BlockFeatures, values: str, graph: Graph) -> tuple[str, list[str]]:
    """Names in the graph: sizes of the blocks [B, L, 1], and the terms of their derivative by the
    roles' values [B, L, R].
    """
    roles = features.layout.size
    last = graph.axes(2)
    factors = [graph.op("Gather", values, graph.axes(role), axis=2) for role in roles]
    slopes = [
        _product([_unit(features, role, graph), *_others(factors, position)], graph)
        for position, role in enumerate(roles)
    ]
    zeros = graph.mul(graph.op("ReduceSum", values, last), graph.constant(0.0))
    ones = graph.add(zeros, graph.constant(1.0))
    return _product([ones, *factors], graph), slopes


def _column_count(features: BlockFeatures) -> int:
    columns = (column for block in features.layout.columns for column in block)
    return 1 + max(column for column in columns if column is not None)


def _selection(index: Ints, count: int) -> Floats:
    """Which column [D] each role of each block takes its value from [L * R, D]."""
    selection = np.zeros((index.size, count + 1))
    selection[np.arange(index.size), index.ravel()] = 1.0
    return selection[:, :-1]


def _unit(features: BlockFeatures, role: int, graph: Graph) -> str:
    return graph.constant(np.eye(len(features.floor))[role])


def _others(factors: list[str], position: int) -> list[str]:
    return [*factors[:position], *factors[position + 1 :]]


def _product(factors: list[str], graph: Graph) -> str:
    return reduce(graph.mul, factors)
