"""The graph of a network's training mode, for networks that return other things while they train.

Heads that exist in training mode only become smaller with the layers that they read. The space to
measure stays that of eval mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn

from latency_service.spaces import slicing
from latency_service.spaces.weightless import make_weightless
from pruning_client.graph import comparison, proof
from pruning_client.graph.chance import WithoutDropout
from pruning_client.graph.export import tensors, trace
from pruning_client.graph.flow import Flow, UnknownShape
from pruning_client.graph.labels import FIXED, Atoms
from pruning_client.graph.layout import Layout, make_manifest
from pruning_client.graph.modes import put_into_mode, structure_of
from pruning_client.graph.rules import RULES
from pruning_client.graph.traced import GraphForm, stored_weights


class TrainingGraph:
    """Graph of training mode whose channels are united with those of eval mode.

    Args:
        graph: Graph of training mode, with weights.
        flow: Atoms of the graph of eval mode; what training mode unites is united there too.
        structure: Outputs of training mode.
    """

    def __init__(self, graph: ModelProto, flow: Flow, model: nn.Module, structure: object) -> None:
        self._bare = make_weightless(graph)
        self._weights = stored_weights(graph, self._bare)
        self._structure = structure
        self._flow = Flow(graph, RULES)
        self._flow.run()
        self._eval = flow
        self._names = [name for name, _ in tensors(model)]
        _share(self._flow, flow, self._names)
        _share(flow, self._flow, self._names)

    @classmethod
    def find(cls, twin: proof.Twin, inputs: tuple[Tensor, ...], flow: Flow) -> Self | None:
        """The graph of training mode if it differs from that of eval mode and can be exported."""
        model = twin.model
        put_into_mode(model, training=True)
        try:
            with torch.no_grad(), WithoutDropout():
                outputs = model(*inputs)
            structure = structure_of(outputs)
            wanted = proof.arrays(outputs)
            if structure == twin.structure and comparison.agree(
                twin.outputs, wanted, fine=twin.fine
            ):
                return None
            graph = trace(model, inputs, training=True)
            if not comparison.agree(proof.run_onnx(graph, inputs), wanted, fine=twin.fine):
                return None
        except Exception:  # noqa: BLE001 training mode may need targets, which only the user has
            return None
        finally:
            model.eval()
        try:
            return cls(graph, flow, model, structure)
        except UnknownShape:
            return None

    def form(self, layout: Layout) -> GraphForm:
        """The graph with the width groups of eval mode."""
        roots = _matches(self._eval, self._flow, self._names)
        # channels that training mode lacks match nothing
        channels = [
            np.array([roots.get(int(root), -1) for root in members], np.int64)
            for members in layout.channels
        ]
        manifest = make_manifest(self._flow, layout.manifest, channels)
        space = slicing.build_space(self._bare, manifest)
        return GraphForm(space=space, weights=self._weights, structure=self._structure)


def _axes(a: Flow, b: Flow, names: Sequence[str]) -> list[tuple[Atoms, Atoms]]:
    """Representatives of the positions of the axes of the weights that both graphs have."""
    return [
        (a.table.roots(first), b.table.roots(second))
        for name in names
        if name in a.tensors and name in b.tensors
        for first, second in zip(a.labels[name], b.labels[name], strict=True)
    ]


def _share(source: Flow, target: Flow, names: Sequence[str]) -> None:
    """Unite and pin in a graph what another graph of the same weights unites and pins."""
    pairs = [np.stack([theirs, ours]) for theirs, ours in _axes(source, target, names)]
    theirs, ours = np.concatenate([np.zeros((2, 0), np.int64), *pairs], axis=1)
    are_channels = (theirs != FIXED) & (ours != FIXED)
    theirs, ours = theirs[are_channels], ours[are_channels]
    roots, firsts, inverse = np.unique(theirs, return_index=True, return_inverse=True)
    known = ours[firsts]
    table = target.table
    apart = table.roots(known)[inverse] != table.roots(ours)
    table.unite(known[inverse[apart]], ours[apart], "")
    for root, atom in zip(roots.tolist(), known.tolist(), strict=True):
        if source.table.is_pinned(root):
            table.pin(np.array([atom]), source.table.reason(root))
    atoms = dict(zip(roots.tolist(), known.tolist(), strict=True))
    for piece in source.pieces:
        of_piece = source.table.roots(piece).tolist()
        target.pieces.append(
            np.array([atoms[root] for root in of_piece if root in atoms], np.int64)
        )


def _matches(source: Flow, target: Flow, names: Sequence[str]) -> dict[int, int]:
    """Representative in the target of each representative in the source."""
    return {
        root: other
        for theirs, ours in _axes(source, target, names)
        for root, other in zip(theirs.tolist(), ours.tolist(), strict=True)
    }
