"""From atoms to the manifest of a search space: width groups, slices, shape values, gates,
producers and readers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from latency_service.core.arrays import Bools, Ints
from latency_service.spaces.schemas import AxisSlice, Manifest, Segment, ShapeValue, WidthGroup
from pruning_client.graph.flow import Flow
from pruning_client.graph.labels import FIXED, Atoms
from pruning_client.graph.modules import (
    PRODUCERS,
    WEIGHTED,
    GatePoint,
    Producer,
    Reader,
    Site,
    channel_axis,
    is_depthwise,
    sites,
)

_Axis = tuple[str, int]

_TOGETHER = "all of these channels can only be removed together"
_ONE = "no other channel goes the same way, and a width of one channel cannot become smaller"
_NOT_FOLLOWED = (
    "its channels cannot be followed through the operators that compute its weight or its output"
)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Width groups of a graph, with their gates, producers and readers."""

    manifest: Manifest
    gates: list[GatePoint]
    producers: list[Producer]
    readers: list[Reader]
    #: Representatives of the channels of each width group [G][width].
    channels: list[Atoms]


def make_layout(
    flow: Flow,
    model: nn.Module,
    name: str,
    minimum: Callable[[int], int],
    more_sites: Sequence[Site] = (),
) -> Layout:
    """Collect the width groups of a graph with known atoms.

    The signature of a channel is the set of weight axes on which it occurs. Channels with the same
    signature form one group: removing any of them changes the same axes. Channels that no layer
    produces are pinned.

    Args:
        minimum: Minimum width of a group, given its width.
        more_sites: Sites for gates beside those behind layers and norms.
    """
    places = [*sites(flow, model), *more_sites]
    axes = {(tensor, axis): flow.table.roots(atoms) for tensor, axis, atoms in _axes(flow)}
    _pin_unproduced(flow, places, axes)
    channels = _groups(flow, axes)
    finder = _Finder(flow, channels)
    producers = [
        entry
        for site in places
        if isinstance(site.module, PRODUCERS)
        for entry in _producers(site, finder)
    ]
    manifest = Manifest(
        name=name,
        groups=_width_groups(channels, producers, minimum),
        slices=_slices(axes, finder),
        values=_shape_values(flow, finder),
        unprunable=_unprunable(flow, model, places),
    )
    return Layout(
        manifest=manifest,
        gates=_gates(places, finder),
        producers=producers,
        readers=_readers(places, finder),
        channels=channels,
    )


def make_manifest(flow: Flow, groups: Manifest, channels: list[Atoms]) -> Manifest:
    """Slices and shape values of another graph of the same width groups.

    Args:
        groups: Manifest whose width groups are taken.
        channels: Representatives in `flow` of the channels of each group [G][width], or -1.
    """
    axes = {(tensor, axis): flow.table.roots(atoms) for tensor, axis, atoms in _axes(flow)}
    finder = _Finder(flow, channels)
    return Manifest(
        name=groups.name,
        groups=groups.groups,
        slices=_slices(axes, finder),
        values=_shape_values(flow, finder),
        unprunable={},
    )


def _slices(axes: dict[_Axis, Atoms], finder: _Finder) -> list[AxisSlice]:
    return [
        AxisSlice(initializer=tensor, axis=axis, segments=finder.segments(atoms))
        for (tensor, axis), atoms in axes.items()
        if finder.any(atoms)
    ]


def _shape_values(flow: Flow, finder: _Finder) -> list[ShapeValue]:
    return [
        ShapeValue(
            node=entry.node,
            attribute=entry.attribute,
            initializer=entry.initializer,
            index=entry.index,
            divisor=entry.divisor,
            segments=finder.segments(entry.atoms),
        )
        for entry in flow.counted
        if finder.any(entry.atoms)
    ]


class _Finder:
    """Group and channel of every atom."""

    def __init__(self, flow: Flow, channels: list[Atoms]) -> None:
        self._flow = flow
        roots = np.concatenate([*channels, np.zeros(0, np.int64)])
        order = np.argsort(roots)
        self._roots = roots[order]
        self._group = np.repeat(np.arange(len(channels)), [len(c) for c in channels])[order]
        self._channel = np.concatenate(
            [*(np.arange(len(c)) for c in channels), np.zeros(0, np.int64)]
        )[order]

    def find(self, atoms: Atoms) -> tuple[Ints, Ints]:
        """Group and channel of each position [P], or -1 and -1 if it is never removed."""
        if not len(self._roots):
            return np.full(len(atoms), -1), np.full(len(atoms), -1)
        roots = self._flow.table.roots(atoms)
        at = np.minimum(np.searchsorted(self._roots, roots), len(self._roots) - 1)
        known = self._roots[at] == roots
        return np.where(known, self._group[at], -1), np.where(known, self._channel[at], -1)

    def any(self, atoms: Atoms) -> bool:
        return bool(np.any(self.find(atoms)[0] >= 0))

    def segments(self, atoms: Atoms) -> list[Segment]:
        return compress(*self.find(atoms))


def compress(group: Ints, channel: Ints) -> list[Segment]:
    """Segments of positions [P] with evenly rising channels, each repeated the same number of
    times.
    """
    segments: list[Segment] = []
    at = 0
    while at < len(group):
        same_group = _run(group[at:] == group[at])
        if group[at] < 0:
            segments.append(Segment(group=-1, count=same_group))
            at += same_group
            continue
        segment = _first_segment(int(group[at]), channel[at : at + same_group])
        segments.append(segment)
        at += segment.count * segment.repeat
    return segments


def _first_segment(group: int, channels: Ints) -> Segment:
    """The longest segment at the front of the channels [P] of one group."""
    repeat = _run(channels == channels[0])
    rise = int(channels[repeat] - channels[0]) if repeat < len(channels) else 1
    step = max(rise, 1)
    expected = channels[0] + step * (np.arange(len(channels)) // repeat)
    count = max(1, _run(channels == expected) // repeat) if rise > 0 else 1
    return Segment(group=group, start=int(channels[0]), step=step, count=count, repeat=repeat)


def _run(equal: Bools) -> int:
    """Length of the leading run of true values."""
    return int(np.argmin(equal)) if not equal.all() else len(equal)


def _axes(flow: Flow) -> list[tuple[str, int, Atoms]]:
    """Axes of the initializers and their atoms, in the order in which the graph reads them."""
    names = dict.fromkeys(
        name for node in flow.model.graph.node for name in node.input if name in flow.tensors
    )
    return [(name, axis, atoms) for name in names for axis, atoms in enumerate(flow.labels[name])]


def _pin_unproduced(flow: Flow, places: list[Site], axes: dict[_Axis, Atoms]) -> None:
    """Pin the channels that no convolution or linear layer produces."""
    is_made = np.zeros(len(flow.table), bool)
    for site in places:
        if isinstance(site.module, PRODUCERS):
            is_made[flow.table.roots(site.atoms)] = True
    is_made[FIXED] = True
    for (name, _), roots in axes.items():
        flow.table.pin(
            roots[~is_made[roots]],
            f"no convolution or linear module makes the channels of {name!r}",
        )
    for piece in flow.pieces:
        roots = flow.table.roots(piece)
        flow.table.pin(roots[~is_made[roots]], "no convolution or linear module makes them")


def _groups(flow: Flow, axes: dict[_Axis, Atoms]) -> list[Atoms]:
    """Representatives of the channels of each group, in the order of the graph."""
    groups: dict[bytes, list[int]] = {}
    for root, signature in _signatures(flow, axes):
        groups.setdefault(signature, []).append(root)
    for signature, members in groups.items():
        if len(members) == 1:
            is_one = bool(np.all(_occurrences(signature)[:, 1] == 1))
            flow.table.pin(np.array(members), _ONE if is_one else _TOGETHER)
    return [np.array(members, np.int64) for members in groups.values() if len(members) > 1]


def _signatures(flow: Flow, axes: dict[_Axis, Atoms]) -> Iterator[tuple[int, bytes]]:
    """Each channel that is not pinned, in the order of the graph, with its signature: the axes and
    pieces on which it occurs and the number of times, see `_occurrences`.
    """
    pieces = [flow.table.roots(piece) for piece in flow.pieces]
    found = [np.zeros((0, 3), np.int64)]
    for index, roots in enumerate([*axes.values(), *pieces]):
        free = roots[~flow.table.pinned(roots)]
        each, first, times = np.unique(free, return_index=True, return_counts=True)
        rows = np.stack([each, np.full(len(each), index), times], axis=1)
        found.append(rows[np.argsort(first)])
    every = np.concatenate(found)
    channels, first, counts = np.unique(every[:, 0], return_index=True, return_counts=True)
    occurrences = every[np.argsort(every[:, 0], kind="stable"), 1:]
    ends = np.cumsum(counts)
    for at in np.argsort(first).tolist():
        mine = occurrences[ends[at] - counts[at] : ends[at]]
        yield int(channels[at]), mine.tobytes()


def _occurrences(signature: bytes) -> Ints:
    """Index of each axis or piece of a signature and the number of times [P, 2]."""
    return np.frombuffer(signature, np.int64).reshape(-1, 2)


def _producers(site: Site, finder: _Finder) -> list[Producer]:
    group, channel = finder.find(site.atoms)
    found = []
    for index in dict.fromkeys(group[group >= 0].tolist()):
        filters = np.flatnonzero(group == index)
        found.append(
            Producer(
                module=site.name,
                group=index,
                filters=filters,
                channels=channel[filters],
                depthwise=is_depthwise(site.module),
            )
        )
    return found


def _readers(places: list[Site], finder: _Finder) -> list[Reader]:
    readers = []
    for site in places:
        if site.inputs is None:
            continue
        group, channel = finder.find(site.inputs)
        if np.any(group >= 0):
            readers.append(
                Reader(
                    module=site.name,
                    axis=channel_axis(site.module),
                    group=group,
                    channel=channel,
                    depthwise=is_depthwise(site.module),
                )
            )
    return readers


def _gates(places: list[Site], finder: _Finder) -> list[GatePoint]:
    gates = []
    for site in places:
        group, channel = finder.find(site.atoms)
        if np.any(group >= 0) and not site.before_norm:
            gates.append(GatePoint(module=site.name, axis=site.axis, group=group, channel=channel))
    return gates


def _width_groups(
    channels: list[Atoms], producers: list[Producer], minimum: Callable[[int], int]
) -> list[WidthGroup]:
    groups: list[WidthGroup] = []
    used: Counter[str] = Counter()
    for index, members in enumerate(channels):
        makers = [entry for entry in producers if entry.group == index]
        name = makers[0].module or "network"
        used[name] += 1
        groups.append(
            WidthGroup(
                name=name if used[name] == 1 else f"{name}#{used[name]}",
                width=len(members),
                minimum=minimum(len(members)),
                unit=max(1, len(makers[0].filters) // len(members)),
                members=[entry.module for entry in makers],
            )
        )
    return groups


def _unprunable(flow: Flow, model: nn.Module, places: list[Site]) -> dict[str, str]:
    """Reason of each layer of which at least one channel is never removed."""
    left: dict[str, str] = {}
    for site in places:
        pinned = flow.table.pinned(site.atoms)
        if not isinstance(site.module, PRODUCERS) or not np.any(pinned):
            continue
        if len(pinned) == 1:
            left[site.name] = "it makes one channel"
            continue
        first = int(flow.table.roots(site.atoms[pinned])[0])
        part = "" if np.all(pinned) else f"{int(pinned.sum())} of {len(pinned)} filters: "
        left[site.name] = part + (_NOT_FOLLOWED if first == FIXED else flow.table.reason(first))
    return left | _without_site(flow, model, {site.name for site in places})


def _without_site(flow: Flow, model: nn.Module, known: set[str]) -> dict[str, str]:
    """Reason of each layer whose output is not that of a module, where no gate can follow."""
    reason = (
        "its weights are used by operations outside a convolution or linear module, where "
        "no gate can follow"
    )
    parameters = dict(model.named_parameters())
    layers = [
        node.input[1].removesuffix(".weight")
        for node in flow.model.graph.node
        if node.op_type in WEIGHTED and node.input[1] in parameters
    ]
    for name, module in model.named_modules():
        held = (f"{name}.{tensor}" for tensor, _ in module.named_parameters())
        if isinstance(module, PRODUCERS) and any(tensor in flow.tensors for tensor in held):
            layers.append(name)
    return {name: reason for name in layers if name not in known}
