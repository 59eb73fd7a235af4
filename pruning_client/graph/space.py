"""A torch model as a search space: width groups found in its exported operator graph.

The graph, not the module tree, is analysed: every position on every axis of every tensor gets a
channel label, each operator's rule unites labels, and positions that can only be removed together
are one channel. Channels that cannot be removed stay at full width, and the manifest lists the
reason.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

from latency_service.spaces import slicing
from latency_service.spaces.plan import Keep
from latency_service.spaces.schemas import Manifest
from latency_service.spaces.weightless import make_weightless
from pruning_client.graph import proof
from pruning_client.graph.activations import activation_sites, sites_with
from pruning_client.graph.bisection import failing_groups
from pruning_client.graph.deployed_graph import DeployedGraph, check_deployed
from pruning_client.graph.errors import ExportError
from pruning_client.graph.export import Example, example_inputs, trace, trace_scopes
from pruning_client.graph.failures import named
from pruning_client.graph.flow import Flow, UnknownShape
from pruning_client.graph.given import given_network
from pruning_client.graph.labels import Atoms
from pruning_client.graph.layout import Layout, make_layout
from pruning_client.graph.leaks import origin_of_fault
from pruning_client.graph.modules import GatePoint, Producer, Reader, Site, nearest_module
from pruning_client.graph.removal import LEAK, TWINS, draw_proven_twin, removal_fault
from pruning_client.graph.rules import RULES
from pruning_client.graph.silence import ClosedTwin
from pruning_client.graph.traced import Deploy, GraphForm, Traced, stored_weights
from pruning_client.graph.training_graph import TrainingGraph

#: Why a layer whose module is never called has no gate.
UNGATED = (
    "the network uses the weights of this layer without calling the module, so that no gate can "
    "stand behind it: "
)

#: Why a layer that no output shows is left.
SILENT = (
    f"with none of {TWINS} draws of random weights any output depends on these channels, so that "
    "nothing can be proven of them"
)

__all__ = [
    "Example",
    "ExportError",
    "Exported",
    "GatePoint",
    "Producer",
    "Reader",
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
        deploy: Deploy | None = None,
    ) -> Self:
        """Find the width groups of a model.

        Args:
            model: Any network that torch can export; it is not changed.
            example: A batch of images [B, C, H, W], a tuple of batches for a model with several
                inputs, or the shape of one image, such as ``(3, 32, 32)``.
            name: Name of the space; the model's class by default.
            minimum: Minimum width of a group; by default a tenth of its width and at least 4.
            deploy: As for `prune`; the space is then that of the deployed form.

        Raises:
            ExportError: The model cannot be traced; the message names the module.
            DeployError: See `make_space`.
        """
        traced = make_space(model, _as_batch(example), name=name, minimum=minimum, deploy=deploy)
        return cls.from_bytes(traced.measured.space.data)


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
    model: nn.Module,
    example: Example,
    *,
    name: str | None = None,
    minimum: int | None = None,
    deploy: Deploy | None = None,
) -> Traced:
    """Find the width groups of a model.

    Args:
        model: Any network that torch can export; it is not changed.
        example: An input batch, or a tuple of them; axis 0 is the batch.
        name: Name of the space; the model's class by default.
        minimum: Minimum width of a group (capped by its full width); by default a tenth of the full
            width and at least 4.
        deploy: Hook that makes the form of the network to measure and export.

    Raises:
        ModelError: What is given is no network that can be pruned; see `given_network`.
        ExportError: The model cannot be traced; the message names the module.
        DeployError: The hook fails, its network has other outputs, or its channels cannot be tied
            to those of the model.
    """
    model = given_network(model)
    graph, scopes = trace_scopes(model, example)
    inputs = example_inputs(example)
    bare = make_weightless(graph)
    weights = stored_weights(graph, bare)
    flow = _follow_channels(graph, model, scopes)
    space_name = name or type(model).__name__
    dense = GraphForm(space=_dense_space(bare, space_name), weights=weights, structure=None)
    twin, fault = draw_proven_twin(model, dense, inputs)
    training = None if fault is not None else TrainingGraph.find(twin, inputs, flow)
    behind = _Behind(flow, model, scopes)
    twins = [twin]
    deployed = None if deploy is None else DeployedGraph(model, inputs, deploy)
    while True:
        layout = make_layout(
            flow, model, space_name, lambda width: _minimum(width, minimum), behind.used
        )
        if deployed is not None and deployed.pin_untied(flow, layout):
            continue
        traced = Traced(
            space=slicing.build_space(bare, layout.manifest),
            weights=weights,
            gates=layout.gates,
            producers=layout.producers,
            readers=layout.readers,
            example=inputs,
            structure=twin.structure,
            training=None if training is None else training.form(layout),
            deployed=None if deployed is None else deployed.form(layout),
        )
        keep = proof.random_keep(traced.space)
        closed = [
            ClosedTwin(twin=twin, gates=traced.gates, keep=keep, inputs=inputs) for twin in twins
        ]
        if _mend(_failing_groups(closed, traced, fault), layout, flow, behind):
            continue
        silent = set() if fault is not None else set.intersection(*(x.silent for x in closed))
        if silent and (another := _another_twin(model, dense, inputs, twins)) is not None:
            twins.append(another)
        elif silent:
            for index in silent:
                flow.table.pin(layout.channels[index], SILENT)
        else:
            check_deployed(model, traced)
            return traced


def _mend(failing: Iterable[tuple[int, str]], layout: Layout, flow: Flow, behind: _Behind) -> bool:
    """Pin the channels of failing groups up to the first one that gates behind activations may
    help; return whether any group fails.
    """
    index = None
    for index, reason in failing:
        channels = layout.channels[index]
        if reason in (LEAK, UNGATED) and behind.close(channels):
            break
        told = f"{LEAK}: {behind.leak(channels)}" if reason == LEAK else reason
        if reason == UNGATED:
            told += behind.cure_of_ungated(layout, index)
        flow.table.pin(channels, told)
    return index is not None


def _another_twin(
    model: nn.Module,
    dense: GraphForm,
    inputs: tuple[Tensor, ...],
    twins: Sequence[proof.Twin],
) -> proof.Twin | None:
    """One more twin, for groups about which those drawn say nothing."""
    if len(twins) == TWINS:
        return None
    another, fault = draw_proven_twin(model, dense, inputs, twins[-1].seed + 1)
    return another if fault is None else None


class _Behind:
    """Gates behind activations, where channels need them."""

    def __init__(self, flow: Flow, model: nn.Module, scopes: Mapping[str, str]) -> None:
        self._flow = flow
        self._model = model
        self._scopes = scopes
        self._left = list(activation_sites(flow, model, scopes))
        self.used: list[Site] = []

    def close(self, channels: Atoms) -> bool:
        """Put gates behind the activations of channels [width], and behind all of these kinds:
        other groups need them for the same reason. Return whether any is new.
        """
        kinds = {type(site.module) for site in sites_with(self._flow, self._left, channels)}
        self.used += [site for site in self._left if type(site.module) in kinds]
        self._left = [site for site in self._left if type(site.module) not in kinds]
        return bool(kinds)

    def cure_of_ungated(self, layout: Layout, index: int) -> str:
        """How the layers of a width group get gates."""
        names = [entry.module for entry in layout.producers if entry.group == index]
        parents = [self._model.get_submodule(name.rpartition(".")[0]) for name in names]
        kinds = {type(parent) for parent in parents if type(parent).__module__.startswith("torch.")}
        if kinds:
            name = min(kind.__name__ for kind in kinds)
            return f"torch's {name} does so, and only one that you write can call its layers"
        return "call the module"

    def leak(self, channels: Atoms) -> str:
        """What makes something else of the zeros of channels [width], and the cure."""
        names = {site.name for site in self.used}
        closed = {node for node, scope in self._scopes.items() if scope in names}
        origin = origin_of_fault(self._flow, self._model, channels, closed)
        return (
            f"its zeros become something else at {origin}"
            if origin is not None
            else "an operation outside the modules with gates makes something else of its zeros"
        )


def _follow_channels(graph: ModelProto, model: nn.Module, scopes: Mapping[str, str]) -> Flow:
    places = {node: named(model, name) for node, name in scopes.items()}
    flow = Flow(graph, RULES, places)
    try:
        flow.run()
    except UnknownShape as error:
        where = nearest_module(graph.graph, error.node, model)
        raise ExportError(
            f"the shape of the output of {flow.describe(error.node)}, behind {where}, depends on "
            "values of tensors.",
            "Make it depend on shapes only.",
        ) from error
    return flow


def _dense_space(bare: ModelProto, name: str) -> slicing.SearchSpace:
    """A graph as a space without width groups."""
    return slicing.build_space(bare, Manifest(name=name, groups=[], slices=[], values=[]))


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


def _failing_groups(
    every: Sequence[ClosedTwin], traced: Traced, fault: str | None
) -> Iterator[tuple[int, str]]:
    """Groups whose removal changes the outputs, and the reasons.

    Args:
        every: Twins, each with random channels closed.
        fault: Why nothing can be proven with any twin.
    """
    if fault is not None:
        return ((index, fault) for index in range(len(traced.space.groups)))
    # no proof is needed of these, and each would take several
    if ungated := proof.ungated_groups(every[0].twin, traced.gates):
        return ((index, UNGATED) for index in sorted(ungated))
    # groups that fail with the first twin with which any does
    for closed in every:
        failing = failing_groups(traced.space, functools.partial(_fault, closed, traced))
        first = next(failing, None)
        if first is not None:
            return itertools.chain([first], failing)
    return iter(())


def _fault(closed: ClosedTwin, traced: Traced, keep: Keep) -> str | None:
    """Reason why all but `keep` cannot be removed, by the twin of `closed`."""
    if not all(map(np.array_equal, keep, closed.keep)):
        closed = dataclasses.replace(closed, keep=keep)
    return removal_fault(closed, traced)
