"""Activations that make something else of zeros, such as a sigmoid: gates belong behind them.

They can be put there where the activation is a module of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import NodeProto
from torch import nn

from pruning_client.graph.affine import CHOICES, FROM_ZERO, SHIFTS
from pruning_client.graph.flow import Flow
from pruning_client.graph.labels import FIXED, Atoms
from pruning_client.graph.modules import NORMS, PRODUCERS, Site

#: Modules whose outputs have gates in any case.
_OTHERS = (*PRODUCERS, *NORMS)


def activation_sites(flow: Flow, model: nn.Module, scopes: Mapping[str, str]) -> Iterator[Site]:
    """Outputs of modules that are an activation, perhaps with parameters, and are used once.

    Args:
        scopes: Name of the innermost module of each node.
    """
    modules = dict(model.named_modules())
    own: dict[str, list[NodeProto]] = {}
    for node in flow.model.graph.node:
        own.setdefault(scopes.get(node.name, ""), []).append(node)
    for name, nodes in own.items():
        module = modules[name]
        moves = any(_moves_zero(flow, node) for node in nodes)
        if not name or not moves or any(isinstance(part, _OTHERS) for part in module.modules()):
            continue
        below = [node for other in own if other.startswith(f"{name}.") for node in own[other]]
        outputs = _outputs(flow, [*nodes, *below])
        labels = flow.of(outputs[0]) if len(outputs) == 1 else ()
        axes = [axis for axis, atoms in enumerate(labels) if np.any(atoms != FIXED)]
        if len(axes) == 1:
            axis = axes[0] if axes[0] < len(labels) - 1 else -1
            yield Site(name=name, module=module, axis=axis, atoms=labels[axis], before_norm=False)


def _moves_zero(flow: Flow, node: NodeProto) -> bool:
    """Whether an operator makes something else of zero, by itself or with a constant."""
    shifts = node.op_type in (*SHIFTS, *CHOICES) and any(
        name in flow.tensors for name in node.input
    )
    return shifts or node.op_type in FROM_ZERO


def _outputs(flow: Flow, nodes: list[NodeProto]) -> list[str]:
    """Outputs of some nodes that others read, or the network's user."""
    names = {node.name for node in nodes}
    read = {entry.name for entry in flow.model.graph.output}
    read |= {
        name for node in flow.model.graph.node if node.name not in names for name in node.input
    }
    return [name for node in nodes for name in node.output if name in read]


def sites_with(flow: Flow, sites: list[Site], channels: Atoms) -> list[Site]:
    """Sites whose outputs hold any of these channels [width]."""
    return [site for site in sites if np.isin(flow.table.roots(site.atoms), channels).any()]
