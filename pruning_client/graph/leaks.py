"""Where the zeros of a closed gate become something else, as the user wrote it."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from onnx import NodeProto
from torch import nn

from pruning_client.graph.affine import CHOICES, FROM_ZERO, affines, stands_alone
from pruning_client.graph.comparison import TOLERANCE
from pruning_client.graph.flow import Flow
from pruning_client.graph.labels import Atoms
from pruning_client.graph.modules import NORMS, PRODUCERS

_LAYERS = ("Conv", "ConvTranspose", "Gemm")


def origin_of_fault(flow: Flow, model: nn.Module, channels: Atoms, closed: Set[str]) -> str | None:
    """The first operator that makes something of the zeros of channels, as the user wrote it, and
    the cure; None if none is known to.

    Args:
        channels: Representatives of the channels of a width group [width].
        closed: Names of nodes with gates behind them.
    """
    shifts = {entry.node.name: entry for entry in affines(flow, model) if entry.shifts}
    modules = dict(model.named_modules(remove_duplicate=False))
    for node in flow.model.graph.node:
        if node.name in closed or not any(
            _holds(flow, flow.labels.get(name, ()), channels) for name in node.output
        ):
            continue
        if node.op_type in FROM_ZERO:
            return (
                f"{flow.describe(node)}. Use an activation that keeps zeros, such as ReLU or SiLU, "
                "or make it a module of its own"
            )
        if node.op_type in CHOICES and _chooses(flow, node):
            return f"{flow.describe(node)} with a constant. Make it a module of its own"
        entry = shifts.get(node.name)
        if entry is not None and not stands_alone(modules[entry.owner]):
            kind = type(modules[entry.owner]).__name__
            where = f"{entry.owner!r} ({kind})" if entry.owner else kind
            what = " and ".join(repr(name) for name in entry.tensors)
            return (
                f"{flow.operator(node)} with {what} in the forward pass of {where}. "
                "Move these tensors and the operator into a module of their own"
            )
    return _of_tensor(flow, modules, channels)


def _holds(flow: Flow, labels: list[Atoms] | tuple[()], channels: Atoms) -> bool:
    return any(bool(np.isin(flow.table.roots(atoms), channels).any()) for atoms in labels)


def _chooses(flow: Flow, node: NodeProto) -> bool:
    """Whether an operator has a constant other than zero that may take the place of a zero."""
    values = [flow.input_value(node, index) for index in range(len(node.input))]
    if node.op_type != "Clip":
        return any(
            value is not None and value.dtype.kind == "f" and bool(np.any(value))
            for value in values
        )
    least = float(np.max(values[1])) if len(values) > 1 and values[1] is not None else 0.0
    most = float(np.min(values[2])) if len(values) > 2 and values[2] is not None else 0.0
    return least > TOLERANCE or most < -TOLERANCE


def _of_tensor(flow: Flow, modules: dict[str, nn.Module], channels: Atoms) -> str | None:
    """A parameter or buffer, outside layers, of which the channels are a part."""
    for node in flow.model.graph.node:
        for name in node.input:
            path, _, leaf = name.rpartition(".")
            owner = modules.get(path)
            if name not in flow.tensors or not hasattr(owner, leaf):
                continue
            is_bias = node.op_type in _LAYERS and list(node.input[2:]) == [name]
            if isinstance(owner, (*PRODUCERS, *NORMS)) or (node.op_type in _LAYERS and not is_bias):
                continue
            if _holds(flow, flow.of(name), channels):
                return (
                    f"{flow.describe(node)} with {name!r}, which has values of its own for these "
                    "channels. Use it in a module of its own, behind which a gate can stand"
                )
    return None
