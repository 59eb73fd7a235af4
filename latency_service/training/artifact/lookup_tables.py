"""Lookup tables: the served form of models that sum over layers, one table of latencies per layer.

A layer's latency depends on two channel counts at most, so it is tabulated over those that the
lattice allows and interpolated by Catmull-Rom cubics in both directions. The sum is exact at every
lattice width and smooth in between. Its slope at a lattice width is a secant gradient: the central
difference over one lattice step to either side, which is what an optimiser gains that moves from
width to width, whereas the derivative of the features jumps at every vector block. The cost of
serving depends neither on the model nor on the size of its ensemble, and all tables of a mixture
are read at the same positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from latency_service.core.arrays import Floats, Ints
from latency_service.spaces.layers import Channels, Layer

#: Maximum number of entries of all tables; beyond it (fine lattices of wide networks) the longest
#: axes are thinned.
MOST_ENTRIES = 2_000_000
#: Number of points that define a cubic.
STENCIL = 4
#: Inverse of the unit that channel counts are multiples of.
RESOLUTION = 2520

#: Latency [...] in ms of a layer, given its number and its c_in, c_out and depth [...].
LayerTime = Callable[[int, Floats, Floats, Floats], Floats]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A channel count in equal cells from the lowest to the highest knot, plus one at each end."""

    count: Channels
    knots: Floats
    cell: float
    #: weights of the stencil's points: coefficients by ascending power of the position in the cell
    #: [cells, powers, STENCIL]
    weights: Floats
    #: first knot of the stencil [cells]
    start: Ints


class Grid:
    """The positions at which the layers of a network are tabulated, shared by all its models.

    Args:
        layers: of the network [L].
        knots: widths at which the tables are exact [G][...].
        floor: lowest widths; narrower ones are predicted as these [G].
    """

    def __init__(self, layers: Sequence[Layer], knots: Sequence[Floats], floor: Floats) -> None:
        self._plans = [_Plan(layer) for layer in layers]
        counts: list[Channels] = []
        pairs = [
            (_position(counts, plan.counts[0]), _position(counts, plan.counts[1]))
            for plan in self._plans
        ]
        axis_knots = _thinned([_knots(count, knots) for count in counts], pairs)
        self.floor = floor
        self.axes = [_axis(count, at) for count, at in zip(counts, axis_knots, strict=True)]
        #: numbers of the two axes of each layer's table [L, 2]
        self.layer_axes: Ints = np.array(pairs)
        lengths = np.array([max(STENCIL, len(at)) for at in axis_knots])[self.layer_axes]
        sizes = lengths.prod(1)
        #: offset and row length of each layer's table in the concatenated tables [L]
        self.first: Ints = np.cumsum(sizes) - sizes
        self.row: Ints = lengths[:, 1]

    def tabulate(self, overhead: float, lowest_ms: float, time: LayerTime) -> Tables:
        """Tables of `time` on this grid."""
        parts = [
            plan.values(partial(time, number), self.axes[a].knots, self.axes[b].knots).ravel()
            for number, (plan, (a, b)) in enumerate(
                zip(self._plans, self.layer_axes.tolist(), strict=True)
            )
        ]
        return Tables(
            grid=self, overhead=overhead, lowest_ms=lowest_ms, values=np.concatenate(parts)
        )


@dataclass(frozen=True, kw_only=True)
class Tables:
    """latency = overhead + sum of each layer's table at the layer's two channel counts, in ms."""

    grid: Grid
    overhead: float
    #: lower bound of the latency, ms
    lowest_ms: float
    #: entries of all tables, concatenated in the order of the grid
    values: Floats


class _Plan:
    """The two counts that a layer's latency depends on; its own three are multiples of them."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.counts: list[Channels] = []
        self.sources = [
            self._source(channels) for channels in (layer.c_in, layer.c_out, layer.depth)
        ]
        nothing = Channels(constant=1.0, coefficients=np.zeros_like(layer.c_in.coefficients))
        self.counts += [nothing] * (2 - len(self.counts))

    def _source(self, channels: Channels) -> tuple[int | None, float]:
        """Number of the count that `channels` is a multiple of (None: constant), and the factor."""
        if not channels.coefficients.any():
            return None, channels.constant
        for number, count in enumerate(self.counts):
            ratio = float(channels.coefficients.sum() / count.coefficients.sum())
            if _same(channels, _times(count, ratio)):
                return number, ratio
        self.counts.append(channels)
        return len(self.counts) - 1, 1.0

    def values(
        self, time: Callable[[Floats, Floats, Floats], Floats], first: Floats, second: Floats
    ) -> Floats:
        """The layer's latency over both axes, each padded to the stencil's size."""
        grid = np.meshgrid(first, second, indexing="ij")
        at = [
            np.full_like(grid[0], f) if number is None else grid[number] * f
            for number, f in self.sources
        ]
        values = time(*at)
        missing = [(0, max(0, STENCIL - size)) for size in values.shape]
        return np.pad(values, missing)


def _position(counts: list[Channels], count: Channels) -> int:
    for number, known in enumerate(counts):
        if _same(known, count):
            return number
    counts.append(count)
    return len(counts) - 1


def _same(first: Channels, second: Channels) -> bool:
    return bool(
        np.isclose(first.constant, second.constant)
        and np.allclose(first.coefficients, second.coefficients)
    )


def _times(count: Channels, factor: float) -> Channels:
    return Channels(constant=count.constant * factor, coefficients=count.coefficients * factor)


def _knots(count: Channels, knots: Sequence[Floats]) -> Floats:
    """Values of `count` at the widths `knots` of its groups; of several groups, a grid of them."""
    groups = np.flatnonzero(count.coefficients).tolist()
    parts = [
        np.round(count.coefficients[g] * knots[g] * RESOLUTION).astype(np.int64) for g in groups
    ]
    if len(parts) <= 1:
        return np.asarray(count.constant + (parts[0] / RESOLUTION if parts else np.zeros(1)))
    step = int(np.gcd.reduce(np.concatenate([np.diff(part) for part in parts])))
    low, high = np.sum([[part[0], part[-1]] for part in parts], axis=0).tolist()
    return np.asarray(count.constant + np.arange(low, high + 1, max(step, 1)) / RESOLUTION)


def _thinned(knots: list[Floats], layer_axes: list[tuple[int, int]]) -> list[Floats]:
    """Knots of which every other one of the longest axis is dropped until all tables fit."""
    while True:
        sizes = [max(STENCIL, len(at)) for at in knots]
        if sum(sizes[first] * sizes[second] for first, second in layer_axes) <= MOST_ENTRIES:
            return knots
        longest = int(np.argmax(sizes))
        knots[longest] = np.unique(np.append(knots[longest][::2], knots[longest][-1]))


def _axis(count: Channels, knots: Floats) -> Axis:
    whole = np.round((knots - knots[0]) * RESOLUTION).astype(np.int64)
    cell = int(np.gcd.reduce(whole)) / RESOLUTION or 1.0
    begin = knots[0] + cell * np.arange(-1, round((knots[-1] - knots[0]) / cell) + 1)
    interval = np.clip(np.searchsorted(knots, begin + cell / 2) - 1, 0, max(len(knots) - 2, 0))
    start = np.clip(interval - 1, 0, max(len(knots) - STENCIL, 0))
    weights = np.stack(
        [_cell(knots, i, s, b, cell) for i, s, b in zip(interval, start, begin, strict=True)]
    )
    return Axis(count=count, knots=knots, cell=cell, weights=weights, start=start)


def _cell(knots: Floats, interval: int, start: int, begin: float, cell: float) -> Floats:
    """Coefficients [powers, STENCIL] in the cell from `begin`, between knot `interval` and the
    next.
    """
    last = len(knots) - 1

    def value(knot: int) -> Floats:
        return np.asarray(np.eye(STENCIL)[knot - start])

    def slope(knot: int) -> Floats:
        low = max(knot - 1, 0)
        high = min(knot + 1, last)
        return (value(high) - value(low)) / (knots[high] - knots[low]) if last else 0 * value(knot)

    if begin < knots[0] or begin >= knots[-1]:  # straight on beyond the ends
        edge = 0 if begin < knots[0] else last
        straight = np.stack([value(edge), slope(edge), 0 * value(edge), 0 * value(edge)])
        return _recentred(straight, begin - knots[edge], cell)
    width = knots[interval + 1] - knots[interval]
    rise = (value(interval + 1) - value(interval)) / width
    bend = slope(interval) + slope(interval + 1) - 2 * rise
    square = (rise - slope(interval) - bend) / width
    local = np.stack([value(interval), slope(interval), square, bend / width**2])
    return _recentred(local, begin - knots[interval], cell)


def _recentred(coefficients: Floats, shift: float, cell: float) -> Floats:
    """The same cubics in u, where the old variable is ``shift + cell * u``."""
    c0, c1, c2, c3 = coefficients
    return np.stack(
        [
            c0 + c1 * shift + c2 * shift**2 + c3 * shift**3,
            (c1 + 2 * c2 * shift + 3 * c3 * shift**2) * cell,
            (c2 + 3 * c3 * shift) * cell**2,
            c3 * cell**3,
        ]
    )
