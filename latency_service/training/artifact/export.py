"""A fitted model as one ONNX file: latency, gradient and interval of any number of architectures.

Input ``widths [B, G]``; outputs ``latency_ms [B]``, ``gradient [B, G]`` (ms per channel),
``lower_ms [B]``, ``upper_ms [B]``; all float32. The backward pass is written out in ordinary
operators, and all layers and members share a few matrix products: one request costs tens of
microseconds in ONNX Runtime.

A new model type is made servable by a `emit.register` line below.
"""

from __future__ import annotations

import numpy as np

from latency_service.training.artifact.emission import Emitted, emit
from latency_service.training.artifact.kernel_operators import (
    emit_block_kernel,
    emit_kernel_sum,
)
from latency_service.training.artifact.lookup_tables import Tables
from latency_service.training.artifact.mixture_operators import emit_constant, emit_mixture
from latency_service.training.artifact.network_operators import emit_block_lpnet, emit_mlp
from latency_service.training.artifact.onnx_builder import Graph
from latency_service.training.artifact.table_operators import emit_tables
from latency_service.training.models.baselines import KernelSum
from latency_service.training.models.kernels import KernelLine
from latency_service.training.models.lpnet import LPNet
from latency_service.training.models.mixtures import Blend, Bottleneck, Constant
from latency_service.training.models.mlp import Mlp

emit.register(Tables, emit_tables)
emit.register(Blend, emit_mixture)
emit.register(Bottleneck, emit_mixture)
emit.register(Constant, emit_constant)
emit.register(KernelSum, emit_kernel_sum)
emit.register(KernelLine, emit_block_kernel)
emit.register(LPNet, emit_block_lpnet)
emit.register(Mlp, emit_mlp)


def export(model: object, *, groups: int, half_width: float) -> bytes:
    """The artifact of `model` for `groups` widths; its interval is ``latency * exp(±half_width)``.

    Raises:
        TypeError: the model type has no gradient.
    """
    graph = Graph()
    emitted = emit(model, graph)
    graph.output("latency_ms", emitted.latency)
    graph.output("gradient", emitted.gradient)
    _add_interval(emitted, half_width, graph)
    return bytes(graph.model(groups).SerializeToString(deterministic=True))


def _add_interval(emitted: Emitted, half_width: float, graph: Graph) -> None:
    for name, sign in (("lower_ms", -1), ("upper_ms", 1)):
        factor = graph.constant(np.exp(sign * half_width))
        graph.output(name, graph.mul(emitted.latency, factor))
