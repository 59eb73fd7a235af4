"""Rules of operators that move or pick pixels: windows, positions that are computed, sampling."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from pruning_client.graph.flow import Flow, Labels, Unsupported
from pruning_client.graph.labels import Atoms
from pruning_client.graph.rules.registry import Registry

rule = Registry()


@rule("Col2Im")
def _columns(flow: Flow, node: NodeProto) -> None:
    """Channels with the taps of a window [B, C * taps, L] become channels [B, C, H, W]."""
    x = flow.of(node.input[0])
    after = flow.shapes[node.output[0]]
    rows: Atoms = x[1].reshape(after[1], -1)
    flow.unite(np.broadcast_to(rows[:, :1], rows.shape), rows, node)
    flow.pin(x[2], node, "windows")
    flow.give(node.output[0], [x[0], rows[:, 0], *flow.fixed(after[2:])])


@rule("GatherElements", "ScatterElements")
def _elements(flow: Flow, node: NodeProto) -> None:
    """Positions along an axis, given for each of the others."""
    parts = [flow.of(name) for name in node.input]
    axis = int(flow.attributes(node).get("axis", 0)) % len(parts[0])
    gathers = node.op_type == "GatherElements"
    out: Labels = []
    for index in range(len(parts[0])):
        axes = [part[index] for part in parts]
        if index == axis:
            for atoms in axes:
                flow.pin(atoms, node, "positions that are picked")
            out.append(np.zeros(len(axes[1 if gathers else 0]), np.int64))
            continue
        if len({len(atoms) for atoms in axes}) > 1:
            raise Unsupported("only a part of its channels is picked from")
        free = next((atoms for atoms in axes if flow.is_free(atoms)), axes[0])
        for atoms in axes:
            flow.unite(atoms, free, node)
        out.append(free)
    flow.give(node.output[0], out)


@rule("TopK")
def _largest(flow: Flow, node: NodeProto) -> None:
    x = list(flow.of(node.input[0]))
    axis = int(flow.attributes(node).get("axis", -1)) % len(x)
    flow.pin(x[axis], node, "compared with each other")
    for name in node.output:
        if name:
            x[axis] = np.zeros(flow.shapes[name][axis], np.int64)
            flow.give(name, list(x))


@rule("GridSample")
def _sample(flow: Flow, node: NodeProto) -> None:
    """Pixels [B, C, H, W] at places [B, H, W, 2]."""
    x, places = flow.of(node.input[0]), flow.of(node.input[1])
    for atoms in places:
        flow.pin(atoms, node, "places of pixels")
    flow.give(node.output[0], [x[0], x[1], *flow.fixed(flow.shapes[node.output[0]][2:])])
