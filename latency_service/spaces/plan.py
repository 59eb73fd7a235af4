"""A manifest prepared for speed: each distinct run of segments as indices into the mask of kept
channels.

Materialising thousands of architectures of one space must cost milliseconds each, so the segments
are expanded once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from latency_service.core.arrays import Bools, Ints
from latency_service.spaces.schemas import AxisSlice, Manifest, Segment, ShapeValue

#: Channels kept of each width group, ascending [G][width].
Keep = Sequence[Ints]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Positions of all axes that follow widths, as indices into one flat mask of channels."""

    #: Start of each group's channels in the mask [G]; after the last group comes one entry that is
    #: always kept.
    offsets: list[int]
    #: Length of the mask.
    size: int
    #: Mask index of every position, for each distinct run of segments.
    runs: list[Ints]
    #: (axis, run) pairs of each initializer that is sliced.
    cuts: Mapping[str, list[tuple[int, int]]]
    #: Shape values that depend on widths: the value and its run.
    values: list[tuple[ShapeValue, int]]

    def mask(self, kept: Keep) -> Bools:
        """The flat mask of the channels kept in each group."""
        mask = np.zeros(self.size, bool)
        mask[-1] = True
        for offset, channels in zip(self.offsets, kept, strict=True):
            mask[offset + channels] = True
        return mask


def make_plan(manifest: Manifest) -> Plan:
    """Expand all segments of a manifest."""
    offsets = np.concatenate(
        [[0], np.cumsum([group.width for group in manifest.groups], dtype=np.int64)]
    ).tolist()
    expander = _Expander(offsets)
    cuts: dict[str, list[tuple[int, int]]] = {}
    for entry in manifest.slices:
        cuts.setdefault(entry.initializer, []).append((entry.axis, expander.run(_key(entry))))
    values = [(entry, expander.run(_key(entry))) for entry in manifest.values]
    return Plan(
        offsets=offsets[:-1], size=offsets[-1] + 1, runs=expander.runs, cuts=cuts, values=values
    )


def expand(segments: Sequence[Segment]) -> tuple[Ints, Ints]:
    """Group [P] and channel [P] of every position; -1 and 0 if it is never removed."""
    groups = [np.full(entry.count * entry.repeat, entry.group) for entry in segments]
    channels = [
        np.repeat(entry.start + entry.step * np.arange(entry.count), entry.repeat)
        * (entry.group >= 0)
        for entry in segments
    ]
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *groups]), np.concatenate([none, *channels])


_Key = tuple[Segment, ...]


def _key(entry: AxisSlice | ShapeValue) -> _Key:
    return tuple(entry.segments)


class _Expander:
    """Distinct runs, each expanded once."""

    def __init__(self, offsets: list[int]) -> None:
        # group -1 reads the entry that is always kept
        self._starts = np.array([*offsets[:-1], offsets[-1]], np.int64)
        self._known: dict[_Key, int] = {}
        self.runs: list[Ints] = []

    def run(self, segments: _Key) -> int:
        if segments not in self._known:
            self._known[segments] = len(self.runs)
            groups, channels = expand(segments)
            self.runs.append(self._starts[groups] + channels)
        return self._known[segments]
