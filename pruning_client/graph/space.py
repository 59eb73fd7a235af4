"""A torch model as a search space: width groups found in its exported operator graph.

The graph, not the module tree, is analysed: every position on every axis of every tensor gets a
channel label, each operator's rule unites labels, and positions that can only be removed together
are one channel. Channels that cannot be removed stay at full width, and the manifest lists the
reason.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

from latency_service.spaces import slicing
from latency_service.spaces.weightless import make_weightless
from pruning_client.graph import proof
from pruning_client.graph.affine import origin_of_fault
from pruning_client.graph.errors import ExportError
from pruning_client.graph.export import Example, example_inputs, trace
from pruning_client.graph.flow import Flow
from pruning_client.graph.labels import Atoms
from pruning_client.graph.layout import Layout, make_layout
from pruning_client.graph.modes import structure_of
from pruning_client.graph.modules import GatePoint, Producer
from pruning_client.graph.removal import LEAK, redrawn_twin, removal_fault
from pruning_client.graph.rules import RULES
from pruning_client.graph.traced import Traced, stored_weights
from pruning_client.graph.training_graph import TrainingGraph

__all__ = [
    "Example",
    "ExportError",
    "Exported",
    "GatePoint",
    "Producer",
    "SearchSpace",
    "Traced",
    "export_onnx",
    "flush_denormals",
    "make_space",
    "trace",
]


class SearchSpace(slicing.SearchSpace):
    """A network's graph without its weights, and its width groups.

    A subclass of the service's own class that can be created from a torch model.
    """

    @classmethod
    def from_model(
        cls,
        model: nn.Module,
        example: Example | Sequence[int],
        *,
        name: str | None = None,
        minimum: int | None = None,
    ) -> Self:
        """Find the width groups of a model.

        Args:
            model: Any network that torch can export; it is not changed.
            example: A batch of images [B, C, H, W], a tuple of batches for a model with several
                inputs, or the shape of one image, such as ``(3, 32, 32)``.
            name: Name of the space; the model's class by default.
            minimum: Minimum width of a group; by default a tenth of its width and at least 4.

        Raises:
            ExportError: The model cannot be traced; the message names the module.
        """
        traced = make_space(model, _as_batch(example), name=name, minimum=minimum)
        return cls.from_bytes(traced.space.data)


def _as_batch(example: Example | Sequence[int]) -> Example:
    if isinstance(example, Tensor):
        return example
    if all(isinstance(size, int) for size in example):
        return torch.zeros(2, *cast("Sequence[int]", example))
    return cast("tuple[Tensor, ...]", tuple(example))


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A written ONNX file."""

    path: Path
    #: Number of denormal values that were set to zero: they make ONNX Runtime many times slower.
    denormals_flushed: int


def make_space(
    model: nn.Module, example: Example, *, name: str | None = None, minimum: int | None = None
) -> Traced:
    """Find the width groups of a model.

    Args:
        model: Any network that torch can export; it is not changed.
        example: An input batch, or a tuple of them; axis 0 is the batch.
        name: Name of the space; the model's class by default.
        minimum: Minimum width of a group (capped by its full width); by default a tenth of the full
            width and at least 4.

    Raises:
        ExportError: The model cannot be traced; the message names the module.
    """
    graph = trace(model, example)
    inputs = example_inputs(example)
    bare = make_weightless(graph)
    weights = stored_weights(graph, bare)
    flow = Flow(graph, RULES)
    flow.run()
    with torch.no_grad():
        structure = structure_of(copy.deepcopy(model).cpu().eval()(*inputs))
    training = TrainingGraph.find(model, inputs, flow)
    while True:
        layout = make_layout(
            flow, model, name or type(model).__name__, lambda width: _minimum(width, minimum)
        )
        traced = Traced(
            space=slicing.build_space(bare, layout.manifest),
            weights=weights,
            gates=layout.gates,
            producers=layout.producers,
            example=inputs,
            structure=structure,
            training=None if training is None else training.form(layout),
        )
        if not _pin_failing(flow, layout, model, traced):
            return traced


def export_onnx(model: nn.Module, example: Example, path: Path | str) -> Exported:
    """Write a model as the ONNX file to deliver, with its weights and with denormals flushed."""
    graph = trace(model, example)
    count = flush_denormals(graph)
    target = Path(path)
    target.write_bytes(graph.SerializeToString(deterministic=True))
    return Exported(path=target, denormals_flushed=count)


def flush_denormals(model: ModelProto) -> int:
    """Set denormal weights to zero, in place, and return their number."""
    total = 0
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if not np.issubdtype(array.dtype, np.floating):
            continue
        denormal = (array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)
        if np.any(denormal):
            total += int(denormal.sum())
            tensor.CopyFrom(
                numpy_helper.from_array(np.where(denormal, array.dtype.type(0), array), tensor.name)
            )
    return total


def _minimum(width: int, wanted: int | None) -> int:
    return max(1, min(width, max(4, math.ceil(width / 10)) if wanted is None else wanted))


def _pin_failing(flow: Flow, layout: Layout, model: nn.Module, traced: Traced) -> bool:
    """Pin groups whose removal changes the outputs, and return whether there were any."""
    twin = redrawn_twin(model, traced)
    failing = (
        dict.fromkeys(range(len(traced.space.groups)), twin)
        if isinstance(twin, str)
        else proof.failing_groups(traced.space, lambda keep: removal_fault(twin, traced, keep))
    )
    for index, reason in failing.items():
        if reason == LEAK:
            reason = f"{LEAK}: {_leak(flow, model, layout.channels[index])}"
        flow.table.pin(layout.channels[index], reason)
    return bool(failing)


def _leak(flow: Flow, model: nn.Module, channels: Atoms) -> str:
    origin = origin_of_fault(flow, model, channels)
    return (
        f"its zeros become something else at {origin}"
        if origin is not None
        else "an operation outside the modules with gates makes something else of its zeros"
    )
