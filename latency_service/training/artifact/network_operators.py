"""ONNX operators of networks: LPNet over blocks, and the plain network over widths."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from latency_service.core.arrays import Floats
from latency_service.training.artifact.block_operators import BlockBasis, block_sizes
from latency_service.training.artifact.emission import WIDTHS, Emitted
from latency_service.training.artifact.onnx_builder import Graph
from latency_service.training.models.block_features import BlockFeatures
from latency_service.training.models.lpnet import LPNet
from latency_service.training.models.mlp import Mlp


class _LPNetMatrices(NamedTuple):
    """Parameters of all M members, one after another, as functions of the basis."""

    #: weights of the linear part [K + R, M], and its constant [L, M]
    linear: Floats
    constant: Floats
    #: weights [K + R, M * H] and biases [L, M * H] of the hidden units
    hidden: Floats
    shifts: Floats
    #: output weights of the hidden units [M * H, M]
    outputs: Floats


def emit_block_lpnet(model: LPNet, graph: Graph) -> Emitted:
    """size * exp(b + d + a.x + v.tanh(x W + c)), summed over blocks and averaged over members.

    Raises:
        TypeError: the network is one of a graph's layers, which is served as tables.
    """
    features = model.features
    if not isinstance(features, BlockFeatures):
        raise TypeError("an LPNet of a graph is served as tables")
    assert not model.parameters.hats.numel(), "blocks have no hat functions"
    matrices = _lpnet_matrices(model, features)
    basis = BlockBasis(features, graph)
    hidden = _hidden_units(basis.basis, matrices, graph)
    logs = graph.matmul(basis.basis, graph.constant(matrices.linear))
    logs = graph.add(logs, graph.matmul(hidden, graph.constant(matrices.outputs)))
    per_size = graph.exp(graph.add(logs, graph.constant(matrices.constant)))
    sizes, size_slopes = block_sizes(features, basis.values, graph)
    times = graph.mul(per_size, sizes)
    total = graph.op("ReduceSum", times, graph.axes(1, 2), keepdims=0)
    latency = graph.add(total, graph.constant(model.overhead))
    slope = _basis_slope(times, hidden, matrices, graph)
    summed = graph.op("ReduceSum", per_size, graph.axes(2))
    by_value = [graph.mul(summed, term) for term in size_slopes]
    return Emitted(latency, basis.vector_gradient(slope, *by_value))


def emit_mlp(model: Mlp, graph: Graph) -> Emitted:
    """exp of the network's output, and the backward pass through its two hidden layers."""
    first, second, third = map(_array, model.weights)
    matrices = [first / model.full[:, None], second, third * model.scale]
    *inner, last = map(_array, model.biases)
    biases = [*inner, last * model.scale + model.mean]
    layers = [WIDTHS]
    for matrix, bias in zip(matrices[:2], biases[:2], strict=True):
        layers.append(graph.op("Relu", _dense(layers[-1], matrix, bias, graph)))
    column = graph.exp(_dense(layers[-1], matrices[2], biases[2], graph))
    gradient = graph.matmul(column, graph.constant(matrices[2].T))
    for matrix, layer in zip(reversed(matrices[:2]), reversed(layers), strict=False):
        gradient = graph.mul(gradient, graph.op("Sign", layer))
        gradient = graph.matmul(gradient, graph.constant(matrix.T))
    return Emitted(graph.op("Squeeze", column, graph.axes(1)), gradient)


def _dense(value: str, matrix: Floats, bias: Floats, graph: Graph) -> str:
    return graph.op("Gemm", value, graph.constant(matrix), graph.constant(bias))


def _lpnet_matrices(model: LPNet, features: BlockFeatures) -> _LPNetMatrices:
    p = model.parameters
    members = len(p.scale)
    linear = _array(p.linear).T
    hidden = np.concatenate(list(_array(p.weights)), axis=1)
    blocks = np.kron(np.eye(members), np.ones((p.outputs.shape[1], 1)))
    return _LPNetMatrices(
        linear=features.matrix @ linear,
        constant=features.offset @ linear
        + _array(p.layers).T
        + _array(p.scale).T
        - np.log(members),
        hidden=features.matrix @ hidden,
        shifts=features.offset @ hidden + _array(p.shifts).ravel(),
        outputs=blocks * _array(p.outputs).reshape(-1, 1),
    )


def _hidden_units(basis: str, matrices: _LPNetMatrices, graph: Graph) -> str:
    """Hidden units [B, L, M * H]."""
    product = graph.matmul(basis, graph.constant(matrices.hidden))
    return graph.op("Tanh", graph.add(product, graph.constant(matrices.shifts)))


def _basis_slope(times: str, hidden: str, matrices: _LPNetMatrices, graph: Graph) -> str:
    """Derivative of the latency by the basis [B, L, K + R]."""
    pull = graph.matmul(times, graph.constant(matrices.outputs.T))
    tanh_slope = graph.sub(graph.constant(1.0), graph.mul(hidden, hidden))
    bent = graph.matmul(graph.mul(pull, tanh_slope), graph.constant(matrices.hidden.T))
    return graph.add(bent, graph.matmul(times, graph.constant(matrices.linear.T)))


def _array(tensor: Tensor) -> Floats:
    return np.asarray(tensor.detach().double().numpy())
