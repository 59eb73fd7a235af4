"""ONNX operators of kernel models.

In double precision, because the weights of the kernels are large and nearly cancel.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from latency_service.core.arrays import Floats
from latency_service.training.artifact.block_operators import BlockBasis
from latency_service.training.artifact.emission import WIDTHS, Emitted
from latency_service.training.artifact.onnx_builder import Graph
from latency_service.training.models.baselines import KernelSum
from latency_service.training.models.kernels import KernelLine


class _Kernels(NamedTuple):
    """Names in the graph: the sum of the kernels [B, 1], and its derivative by x [B, F]."""

    total: str
    slope: str


def emit_kernel_sum(model: KernelSum, graph: Graph) -> Emitted:
    """exp(mean + kernels of log widths); its gradient divides by length and width."""
    rows = graph.axes(1)
    wide = graph.cast(WIDTHS, TensorProto.DOUBLE)
    held = graph.maximum(wide, _double(model.floor, graph))
    scaled = graph.mul(held, _double(1 / model.full, graph))
    x = graph.mul(graph.log(scaled), _double(1 / model.lengths, graph))
    kernels = _kernels(x, model.centres, model.alpha, graph)
    column = graph.exp(graph.add(kernels.total, _double(model.mean, graph)))
    by_log = graph.mul(kernels.slope, _double(1 / model.lengths, graph))
    gradient = graph.mul(graph.div(by_log, held), column)
    return Emitted(
        _single(graph.op("Squeeze", column, rows), graph),
        _single(gradient, graph),
    )


def emit_block_kernel(model: KernelLine, graph: Graph) -> Emitted:
    """exp(mean + line + kernels) of the features of one block."""
    basis = BlockBasis(model.features, graph)
    rows = graph.axes(1)
    features = _features(model, basis.basis, graph)
    x = graph.mul(features, _double(1 / model.lengths, graph))
    kernels = _kernels(x, model.centres, model.alpha, graph)
    weights = _double(model.linear[:, None], graph)
    line = graph.op("Gemm", features, weights, _double([model.mean], graph))
    column = graph.exp(graph.add(kernels.total, line))
    slope = graph.mul(kernels.slope, _double(1 / model.lengths, graph))
    slope = graph.mul(graph.add(slope, _double(model.linear, graph)), column)
    by_basis = graph.matmul(_single(slope, graph), graph.constant(model.features.matrix.T))
    gradient = basis.vector_gradient(graph.op("Unsqueeze", by_basis, rows))
    return Emitted(_single(graph.op("Squeeze", column, rows), graph), gradient)


def _features(model: KernelLine, basis: str, graph: Graph) -> str:
    """Features of the only block [B, F], in double precision."""
    product = graph.matmul(basis, graph.constant(model.features.matrix))
    flat = graph.op("Squeeze", product, graph.axes(1))
    features = graph.add(flat, graph.constant(model.features.offset[0]))
    return graph.cast(features, TensorProto.DOUBLE)


def _kernels(x: str, centres: Floats, alpha: Floats, graph: Graph) -> _Kernels:
    """sum_i a_i k_i with k_i = exp(-|x - c_i|^2 / 2), and its derivative sum_i a_i k_i (c_i - x).

    |x - c|^2 is expanded into |x|^2 - 2 x.c + |c|^2.
    """
    rows = graph.axes(1)
    squares = graph.op("ReduceSum", graph.mul(x, x), rows)
    norm = graph.mul(squares, _double(-0.5, graph))
    centre_norms = _double(-0.5 * (centres**2).sum(1), graph)
    products = graph.op("Gemm", x, _double(centres.T, graph), centre_norms)
    terms = graph.mul(graph.exp(graph.add(products, norm)), _double(alpha, graph))
    total = graph.op("ReduceSum", terms, rows)
    pull = graph.matmul(terms, _double(centres, graph))
    return _Kernels(total, graph.sub(pull, graph.mul(total, x)))


def _double(values: npt.ArrayLike, graph: Graph) -> str:
    return graph.constant(values, np.float64)


def _single(value: str, graph: Graph) -> str:
    return graph.cast(value, TensorProto.FLOAT)
