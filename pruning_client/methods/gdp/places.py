"""Where the gates of each width group are multiplied, so that they can be absorbed exactly."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.spaces.plan import Keep
from pruning_client.execution.copies import copied
from pruning_client.execution.progress import Progress, ProgressEvent, silent
from pruning_client.graph import proof
from pruning_client.graph.bisection import failing_groups
from pruning_client.graph.removal import draw_closed_twin
from pruning_client.graph.space import GatePoint, Reader, Traced
from pruning_client.methods.absorption import scale_inputs, scale_outputs
from pruning_client.methods.gates import Gates

#: "reader": before every convolution and linear layer that reads the group, as in the paper.
#: "producer": behind the norms or layers that produce it. "binary": there too, but nothing can
#: absorb the gates, so that they have to end at zero and one.
PlaceName = Literal["reader", "producer", "binary"]
#: Lowest gate of an open channel in the proof.
_LOWEST_OPEN = 0.5
_PHASE = "find the places of gates"
_FAULT = "absorbing the gates changes the outputs"
_Point = TypeVar("_Point", GatePoint, Reader)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Places of the gates of every width group."""

    #: Name of the place of each group [G].
    names: list[PlaceName]
    #: Layers whose inputs are multiplied; positions of groups with other places are -1.
    readers: list[Reader]
    #: Modules whose outputs are multiplied; positions of groups with other places are -1.
    producers: list[GatePoint]

    def gates(self, model: nn.Module, traced: Traced) -> Gates:
        """Gates at these places."""
        return Gates(model, traced, outputs=self.producers, inputs=self.readers)

    @torch.no_grad()
    def absorb(self, model: nn.Module, gates: Sequence[Tensor]) -> None:
        """Multiply gates [G][C] into the weights of the modules at their places, in place.

        The network then computes without gates what it computed with them. Gates of the place
        "binary" are not absorbed: their channels are open, or will be removed.
        """
        for reader in self.readers:
            scale_inputs(model.get_submodule(reader.module), _positions(reader, gates))
        absorbed = [name == "producer" for name in self.names]
        for point in _restricted(self.producers, absorbed):
            scale_outputs(model.get_submodule(point.module), _positions(point, gates))


def find_places(model: nn.Module, traced: Traced, progress: Progress = silent) -> Places:
    """The paper's place for each width group where it is exact; otherwise the next that is.

    Exact means that closing gates at the place is removal of the channels, and that open gates of
    any value can be absorbed. Both are tested by execution, with random weights and random gates.
    """
    count = len(traced.space.groups)
    closed = draw_closed_twin(model, traced, proof.random_keep(traced.space))
    if isinstance(closed, str):
        return _places(traced, ["binary"] * count)
    names: list[PlaceName] = ["reader"] * count
    following: tuple[PlaceName, ...] = ("producer", "binary")
    for done, name in enumerate(following, 1):
        fault = functools.partial(_fault, closed.twin, traced, _places(traced, names))
        for group, _ in failing_groups(traced.space, fault):
            names[group] = name
        progress(ProgressEvent(phase=_PHASE, done=done, total=len(following), unit="rounds"))
    return _places(traced, names)


def _places(traced: Traced, names: list[PlaceName]) -> Places:
    before_readers = [name == "reader" for name in names]
    # a norm behind a depthwise convolution would undo gates before it
    mixing = [reader for reader in traced.readers if not reader.depthwise]
    return Places(
        names=list(names),
        readers=_restricted(mixing, before_readers),
        producers=_restricted(traced.gates, [not is_reader for is_reader in before_readers]),
    )


def _restricted(points: Sequence[_Point], chosen: Sequence[bool]) -> list[_Point]:
    """Points with any position of a chosen group [G]; positions of other groups become -1."""
    found = []
    for point in points:
        has = np.array([group >= 0 and chosen[group] for group in point.group])
        if has.any():
            group = np.where(has, point.group, -1)
            channel = np.where(has, point.channel, -1)
            found.append(replace(point, group=group, channel=channel))
    return found


def _positions(point: GatePoint | Reader, gates: Sequence[Tensor]) -> Tensor:
    """Factor of each position of a point's axis [P], from gates [G][C]; 1 where there is none."""
    scale = gates[0].new_ones(len(point.group))
    for group in np.unique(point.group[point.group >= 0]):
        where = np.flatnonzero(point.group == group)
        values = gates[group][torch.as_tensor(point.channel[where], device=scale.device)]
        scale[torch.as_tensor(where, device=scale.device)] = values
    return scale


def _fault(twin: proof.Twin, traced: Traced, places: Places, keep: Keep) -> str | None:
    """Why gates at these places cannot be absorbed when only `keep` stays, or None."""
    gates = _random_gates(traced, places, keep)
    model = twin.model
    gating = places.gates(model, traced)
    gating.set(gates)
    absorbed = copied(model)
    places.absorb(absorbed, gates)
    try:
        with gating.attached():
            before = twin.result(traced.example)
    except ValueError:
        # a layer that is called with its input by name
        return _FAULT
    with proof.gated(absorbed, traced.gates, keep):
        after = proof.result_of(absorbed, traced.example)
    return None if twin.agree(before, after) else _FAULT


def _random_gates(traced: Traced, places: Places, keep: Keep) -> list[Tensor]:
    """Gates [G][C]: closed outside `keep`; of groups that lose channels the others are random."""
    random = torch.Generator().manual_seed(0)
    gates = []
    for group, name, kept in zip(traced.space.groups, places.names, keep, strict=True):
        width = group.width
        value = torch.zeros(width)
        drawn = _LOWEST_OPEN + (1 - _LOWEST_OPEN) * torch.rand(width, generator=random)
        is_whole = len(kept) == width or name == "binary"
        index = torch.as_tensor(kept)
        value[index] = 1.0 if is_whole else drawn[index]
        gates.append(value)
    return gates
