"""From atoms to the manifest of a search space: width groups, slices, numbers that follow, gates
and producers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import nn

from latency_service.core.arrays import Bools, Ints
from latency_service.spaces.schemas import AxisSlice, Manifest, Segment, ShapeValue, WidthGroup
from pruning_client.graph.flow import Flow
from pruning_client.graph.labels import Atoms
from pruning_client.graph.modules import CONVOLUTIONS, PRODUCERS, GatePoint, Producer, Site, sites

_Axis = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the atoms of a graph say about its width groups."""

    manifest: Manifest
    gates: list[GatePoint]
    producers: list[Producer]
    #: for each width group its channels' representatives [G][width]
    channels: list[Atoms]


def make_layout(flow: Flow, model: nn.Module, name: str, minimum: Callable[[int], int]) -> Layout:
    """Collect the width groups of a graph whose atoms are known.

    Channels with the same signature, the axes of weights that they occur on, form one group:
    removing any of them touches the same axes. Channels that no layer produces are pinned.
    """
    places = sites(flow, model)
    _pin_unproduced(flow, places)
    axes = {(tensor, axis): flow.table.roots(atoms) for tensor, axis, atoms in _axes(flow)}
    channels = _groups(flow, axes)
    finder = _Finder(flow, channels)
    producers = [
        entry
        for site in places
        if isinstance(site.module, PRODUCERS)
        for entry in _producers(site, finder)
    ]
    groups = _width_groups(channels, producers, minimum)
    slices = [
        AxisSlice(initializer=tensor, axis=axis, segments=finder.segments(atoms))
        for (tensor, axis), atoms in axes.items()
        if finder.any(atoms)
    ]
    values = [
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
    manifest = Manifest(
        name=name,
        groups=groups,
        slices=slices,
        values=values,
        unprunable=_unprunable(flow, model, places),
    )
    return Layout(
        manifest=manifest, gates=_gates(places, finder), producers=producers, channels=channels
    )


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
        """Group and channel of each position [P]; -1 and -1 where it is never removed."""
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
    """Runs of positions [P] whose channels rise evenly, each channel repeated the same number of
    times.
    """
    segments: list[Segment] = []
    at = 0
    size = len(group)
    while at < size:
        same_group = _run(group[at:] == group[at])
        if group[at] < 0:
            segments.append(Segment(group=-1, count=same_group))
            at += same_group
            continue
        block = channel[at : at + same_group]
        repeat = _run(block == block[0])
        step = int(block[repeat] - block[0]) if repeat < len(block) else 1
        expected = block[0] + max(step, 1) * (np.arange(len(block)) // repeat)
        count = max(1, _run(block == expected) // repeat) if step > 0 else 1
        segments.append(
            Segment(
                group=int(group[at]),
                start=int(block[0]),
                step=max(step, 1),
                count=count,
                repeat=repeat,
            )
        )
        at += count * repeat
    return segments


def _run(equal: Bools) -> int:
    """Length of the run of true values at the front."""
    return int(np.argmin(equal)) if not equal.all() else len(equal)


def _axes(flow: Flow) -> list[tuple[str, int, Atoms]]:
    """Axes of the initializers in the order in which the graph reads them."""
    names = dict.fromkeys(
        name for node in flow.model.graph.node for name in node.input if name in flow.tensors
    )
    return [(name, axis, atoms) for name in names for axis, atoms in enumerate(flow.labels[name])]


def _pin_unproduced(flow: Flow, places: list[Site]) -> None:
    made = [flow.table.roots(site.atoms) for site in places if isinstance(site.module, PRODUCERS)]
    known = np.unique(np.concatenate([*made, np.zeros(1, np.int64)]))
    for name, _, atoms in _axes(flow):
        roots = flow.table.roots(atoms)
        flow.table.pin(
            roots[~np.isin(roots, known)],
            f"no convolution or linear module makes the channels of {name!r}",
        )


def _groups(flow: Flow, axes: dict[_Axis, Atoms]) -> list[Atoms]:
    """Representatives of the channels of each group, in the order in which the graph makes them."""
    signatures: dict[int, list[tuple[int, int]]] = {}
    for index, roots in enumerate(
        [*axes.values(), *(flow.table.roots(piece) for piece in flow.pieces)]
    ):
        free = roots[~flow.table.pinned(roots)]
        for root, count in Counter(free.tolist()).items():
            signatures.setdefault(root, []).append((index, count))
    groups: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for root, signature in signatures.items():
        groups.setdefault(tuple(signature), []).append(root)
    alone = [members for members in groups.values() if len(members) == 1]
    for members in alone:
        flow.table.pin(np.array(members), "all of these channels can only be removed together")
    return [np.array(members, np.int64) for members in groups.values() if len(members) > 1]


def _producers(site: Site, finder: _Finder) -> list[Producer]:
    group, channel = finder.find(site.atoms)
    module = site.module
    depthwise = (
        isinstance(module, CONVOLUTIONS) and module.groups > 1 and module.weight.shape[1] == 1
    )
    found = []
    for index in dict.fromkeys(group[group >= 0].tolist()):
        filters = np.flatnonzero(group == index)
        found.append(
            Producer(
                module=site.name,
                group=index,
                filters=filters,
                channels=channel[filters],
                depthwise=depthwise,
            )
        )
    return found


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
    """Layers left at full width, wholly or in part, with the reasons."""
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
        left[site.name] = part + flow.table.reason(first)
    return left | _without_site(flow, model, {site.name for site in places})


def _without_site(flow: Flow, model: nn.Module, known: set[str]) -> dict[str, str]:
    """Layers whose output is not a module's output, so that no gate can follow them."""
    reason = (
        "its weights are used by operations outside a convolution or linear module, where "
        "no gate can follow"
    )
    weighted = [
        node
        for node in flow.model.graph.node
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
    ]
    layers = [
        node.input[1].removesuffix(".weight") for node in weighted if node.input[1] in flow.tensors
    ]
    for name, module in model.named_modules():
        if isinstance(module, PRODUCERS) and f"{name}.weight" in flow.tensors:
            layers.append(name)
    return {name: reason for name in layers if name not in known}
