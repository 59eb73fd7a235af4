"""Activations that make something else of zeros, such as a sigmoid: gates belong behind them.

They can be put there where the activation is a module of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from onnx import NodeProto
from torch import nn

from pruning_client.graph.affine import FROM_ZERO, stands_alone
from pruning_client.graph.flow import Flow
from pruning_client.graph.labels import FIXED, Atoms
from pruning_client.graph.modules import Site


def activation_sites(flow: Flow, model: nn.Module, scopes: Mapping[str, str]) -> Iterator[Site]:
    """Outputs of modules that are nothing but an activation, used once.

    Args:
        scopes: Name of the innermost module of each node.
    """
    modules = dict(model.named_modules())
    first = {id(module): name for name, module in modules.items()}
    aliases = {
        name: first[id(module)] for name, module in model.named_modules(remove_duplicate=False)
    }
    inside: dict[str, list[NodeProto]] = {}
    for node in flow.model.graph.node:
        # a second use has a number behind the name
        name = scopes.get(node.name, "").partition("@")[0]
        inside.setdefault(aliases.get(name, ""), []).append(node)
    for name, nodes in inside.items():
        changing = [node for node in nodes if node.op_type in FROM_ZERO]
        module = modules.get(name)
        if module is None or len(changing) != 1 or not _holds_nothing(module):
            continue
        labels = flow.of(nodes[-1].output[0])
        axes = [axis for axis, atoms in enumerate(labels) if np.any(atoms != FIXED)]
        if len(axes) == 1:
            axis = axes[0] if axes[0] < len(labels) - 1 else -1
            yield Site(name=name, module=module, axis=axis, atoms=labels[axis], before_norm=False)


def sites_with(flow: Flow, sites: list[Site], channels: Atoms) -> list[Site]:
    """Sites whose outputs hold any of these channels [width]."""
    return [site for site in sites if np.isin(flow.table.roots(site.atoms), channels).any()]


def _holds_nothing(module: nn.Module) -> bool:
    tensors = [*module.parameters(), *module.buffers()]
    return stands_alone(module) and not tensors
