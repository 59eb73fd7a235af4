"""What LPNet sees of an architecture: per-layer features as differentiable functions of the widths.

Latency steps up where a layer's channels cross a multiple of the target's vector blocks, so each layer is described
by its channels *and* by what rounding them up to whole blocks adds. That excess is a step function of the width. It is
taken exactly at the widths of the lattice, the only ones that are measured and emitted, and joined between them by a
cubic spline whose slope at each lattice width is the central difference over its neighbours: the derivative is then
what one lattice step to either side changes, which is the direction that an optimiser needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from latency_service.spaces.layers import Channels, Layer, layers
from latency_service.spaces.slicing import SearchSpace

Floats = npt.NDArray[np.float64]

#: Channels that vector units take at once, on the processors we know.
BLOCKS = (4, 8, 16, 32)
#: Below this share of a group's minimum the features no longer follow the width: nothing there was ever measured.
LOWEST_SHARE = 0.5
KINDS = ("conv", "depthwise", "grouped", "transposed", "linear")


@dataclass(frozen=True, kw_only=True)
class Spline:
    """Piecewise cubics of one width each, on a grid of equal cells: cell k covers ``[k * cell, (k + 1) * cell)``."""

    #: width of a cell, channels
    cell: int
    #: row of the first cell of each group, and number of the last one [G]
    first_row: Floats
    last_cell: Floats
    #: coefficients of ascending powers of the position inside the cell [4, rows, columns]
    table: Floats

    @property
    def columns(self) -> int:
        """Functions tabulated for each group."""
        return int(self.table.shape[2])


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """From widths [N, G] to the code z [N, U], in which every layer's features are linear.

    The first entries of z are the logarithms of every channel count that occurs; the rest, group by group, the
    logarithms of their excess over whole blocks.
    """

    #: widths below these are taken as these [G]
    floor: Floats
    #: distinct channel counts, affine in the widths: constant [C], coefficients [C, G]
    constant: Floats
    coefficients: Floats
    #: none where every width of the lattice is a multiple of every block
    spline: Spline | None
    #: features of layer l are ``z @ matrix[l] + offset[l]``: [L, U, F] and [L, F], standardised over the lattice
    matrix: Floats
    offset: Floats
    #: log of multiply-accumulates likewise: [L, U] and [L]
    macs_matrix: Floats
    macs_offset: Floats

    def encode(self, widths: torch.Tensor) -> torch.Tensor:
        """z [N, U] of `widths` [N, G], differentiable, float64."""
        held = torch.maximum(widths, torch.as_tensor(self.floor))
        channels = held @ torch.as_tensor(self.coefficients.T) + torch.as_tensor(self.constant)
        parts = [torch.log(channels)]
        if self.spline is not None:
            parts.append(_interpolate(self.spline, held).flatten(1))
        return torch.cat(parts, dim=1)

    def features(self, z: torch.Tensor) -> torch.Tensor:
        """Standardised features [N, L, F] of the code z [N, U]."""
        return torch.einsum("nu,luf->nlf", z, torch.as_tensor(self.matrix)) + torch.as_tensor(self.offset)

    def log_macs(self, z: torch.Tensor) -> torch.Tensor:
        """Logarithm of each layer's multiply-accumulates [N, L]."""
        return z @ torch.as_tensor(self.macs_matrix.T) + torch.as_tensor(self.macs_offset)


def build_encoding(space: SearchSpace, lattice: Sequence[Sequence[int]], widths: npt.NDArray[np.integer]) -> Encoding:
    """The encoding of `space` whose splines are exact at `lattice` [G][...] and at the measured `widths` [N, G].

    Raises:
        SpaceError: shape inference does not reach a layer.
    """
    found = layers(space)
    knots = [
        np.unique([group.minimum, group.width, *lattice[g], *widths[:, g]]).astype(np.float64)
        for g, group in enumerate(space.groups)
    ]
    counts = _Counts(found, len(knots))
    blocks = _active_blocks(counts.functions, knots)
    spline = _build_spline(counts.functions, knots, blocks) if blocks else None
    builder = _Features(counts, blocks, np.array(space.full_widths, dtype=np.float64), spline)
    floor = np.array([LOWEST_SHARE * k[0] for k in knots])
    raw, offset, macs, macs_offset = builder.rows(found)
    bare = Encoding(
        floor=floor, constant=counts.constant, coefficients=counts.coefficients, spline=spline,
        matrix=raw, offset=offset, macs_matrix=macs, macs_offset=macs_offset,
    )  # fmt: skip
    return _standardised(bare, widths)


def _standardised(bare: Encoding, widths: npt.NDArray[np.integer]) -> Encoding:
    """The same with every feature of zero mean and unit variance over the layers of `widths`; constant ones go."""
    with torch.no_grad():
        features = bare.features(bare.encode(torch.as_tensor(widths, dtype=torch.float64))).numpy()
    flat = features.reshape(-1, features.shape[-1])
    mean, deviation = flat.mean(0), flat.std(0)
    used = deviation > 1e-6
    return Encoding(
        floor=bare.floor, constant=bare.constant, coefficients=bare.coefficients, spline=bare.spline,
        matrix=(bare.matrix / np.where(used, deviation, 1))[..., used],
        offset=((bare.offset - mean) / np.where(used, deviation, 1))[..., used],
        macs_matrix=bare.macs_matrix, macs_offset=bare.macs_offset,
    )  # fmt: skip


class _Counts:
    """The distinct channel counts of a network, and which of them follow one group alone."""

    def __init__(self, found: Sequence[Layer], groups: int) -> None:
        self.index: dict[tuple[float, ...], int] = {}
        #: for each group the affine functions ``constant + slope * width`` that occur
        self.functions: list[list[tuple[float, float]]] = [[] for _ in range(groups)]
        for channels in (c for layer in found for c in (layer.c_in, layer.c_out, layer.depth)):
            self.index.setdefault(_key(channels), len(self.index))
            for g in np.flatnonzero(channels.coefficients):
                function = self.function(channels, int(g))
                if function not in self.functions[g]:
                    self.functions[g].append(function)
        keys = np.array(list(self.index))
        self.constant, self.coefficients = keys[:, 0], keys[:, 1:]

    @staticmethod
    def function(channels: Channels, group: int) -> tuple[float, float]:
        """The part of `channels` that follows `group`: a sum of several groups is rounded up part by part."""
        alone = np.count_nonzero(channels.coefficients) == 1
        return (channels.constant if alone else 0.0, float(channels.coefficients[group]))


class _Features:
    """Writes features as rows that are linear in the code."""

    def __init__(self, counts: _Counts, blocks: Sequence[int], full: Floats, spline: Spline | None) -> None:
        self.counts, self.blocks, self.full = counts, blocks, full
        self.columns = spline.columns if spline is not None else 0
        self.size = len(counts.index) + len(full) * self.columns

    def rows(self, found: Sequence[Layer]) -> tuple[Floats, Floats, Floats, Floats]:
        """Features of all layers [L, U, F] and offsets [L, F]; log MACs likewise [L, U] and [L]."""
        features = [list(self._layer(layer)) for layer in found]
        macs = [self._log_macs(layer) for layer in found]
        return (
            np.stack([np.stack([row for row, _ in entry], axis=1) for entry in features]),
            np.array([[constant for _, constant in entry] for entry in features]),
            np.stack([row for row, _ in macs]),
            np.array([constant for _, constant in macs]),
        )

    def _layer(self, layer: Layer) -> Iterator[tuple[Floats, float]]:
        for channels in (layer.c_in, layer.c_out):
            yield self._log(channels), 0.0
            for position, block in enumerate(self.blocks):
                yield self._excess(channels, position, block)
        nothing = np.zeros(self.size)
        for value in (layer.pixels_out, layer.taps, layer.stride):
            yield nothing, float(np.log(value))
        for kind in KINDS:
            yield nothing, float(layer.kind == kind)

    def _log_macs(self, layer: Layer) -> tuple[Floats, float]:
        pixels = layer.pixels_in if layer.kind == "transposed" else layer.pixels_out
        return self._log(layer.c_out) + self._log(layer.depth), float(np.log(layer.taps * pixels))

    def _log(self, channels: Channels) -> Floats:
        row = np.zeros(self.size)
        row[self.counts.index[_key(channels)]] = 1.0
        return row

    def _excess(self, channels: Channels, position: int, block: int) -> tuple[Floats, float]:
        groups = np.flatnonzero(channels.coefficients)
        if not len(groups):
            return np.zeros(self.size), float(_log_excess(np.array(channels.constant), block))
        row = np.zeros(self.size)
        parts = channels.coefficients[groups] * self.full[groups]
        for g, part in zip(groups, parts, strict=True):
            which = self.counts.functions[g].index(self.counts.function(channels, int(g)))
            column = which * len(self.blocks) + position
            row[len(self.counts.index) + g * self.columns + column] = part / parts.sum()
        return row, 0.0


def _key(channels: Channels) -> tuple[float, ...]:
    return (float(channels.constant), *map(float, channels.coefficients))


def _log_excess(channels: Floats, block: int) -> Floats:
    """log(channels rounded up to whole blocks / channels); counts are whole up to rounding errors."""
    return np.asarray(np.log(np.ceil(channels / block - 1e-9) * block / channels))


def _active_blocks(functions: Sequence[Sequence[tuple[float, float]]], knots: Sequence[Floats]) -> list[int]:
    """The blocks that some width of the lattice does not fill, coarser ones than any width left out."""

    def matters(block: int) -> bool:
        counts = [a + b * k for of, k in zip(functions, knots, strict=True) for a, b in of]
        return any(np.any(_log_excess(c, block) > 1e-9) for c in counts) and any(c.max() >= block for c in counts)

    return [block for block in BLOCKS if matters(block)]


def _build_spline(
    functions: Sequence[Sequence[tuple[float, float]]], knots: Sequence[Floats], blocks: Sequence[int]
) -> Spline:
    cell = int(np.gcd.reduce(np.concatenate(knots).astype(np.int64)))
    columns = len(blocks) * max(len(of) for of in functions)
    tables: list[Floats] = []
    for of, at in zip(functions, knots, strict=True):
        table = np.zeros((4, int(at[-1]) // cell + 1, columns))
        values = [_log_excess(a + b * at, block) for a, b in of for block in blocks]
        for column, value in enumerate(values):
            table[:, :, column] = _cells(at, value, cell)
        tables.append(table)
    sizes = np.array([table.shape[1] for table in tables], dtype=np.float64)
    return Spline(
        cell=cell, first_row=np.cumsum(sizes) - sizes, last_cell=sizes - 1, table=np.concatenate(tables, axis=1)
    )


def _cells(at: Floats, value: Floats, cell: int) -> Floats:
    """Coefficients [4, cells] of the spline through `value` at the knots `at`, straight beyond them."""
    slope = np.gradient(value) / np.gradient(at) if len(at) > 1 else np.zeros(1)
    start = np.arange(int(at[-1]) // cell + 1, dtype=np.float64) * cell
    left = np.clip(np.searchsorted(at, start, side="right") - 1, 0, max(0, len(at) - 2))
    right = np.minimum(left + 1, len(at) - 1)
    width = np.where(right > left, at[right] - at[left], 1.0)
    rise = (value[right] - value[left]) / width
    cubic = (slope[left] + slope[right] - 2 * rise) / width**2
    square = (3 * rise - 2 * slope[left] - slope[right]) / width
    local = np.stack([value[left], slope[left], square, cubic])
    outside = (start < at[0]) | (start >= at[-1])
    edge = np.where(start < at[0], 0, len(at) - 1)
    straight = np.stack([value[edge], slope[edge], np.zeros_like(start), np.zeros_like(start)])
    shift = start - np.where(outside, at[edge], at[left])
    return _recentred(np.where(outside, straight, local), shift, cell)


def _recentred(coefficients: Floats, shift: Floats, cell: int) -> Floats:
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


def _interpolate(spline: Spline, widths: torch.Tensor) -> torch.Tensor:
    """The tabulated functions [N, G, columns] at `widths` [N, G]."""
    position = widths / spline.cell
    cell = torch.minimum(torch.floor(position.detach()), torch.as_tensor(spline.last_cell))
    rows = (cell + torch.as_tensor(spline.first_row)).long()
    u = (position - cell)[..., None]
    c0, c1, c2, c3 = torch.as_tensor(spline.table)[:, rows]
    value: torch.Tensor = c0 + u * (c1 + u * (c2 + u * c3))
    return value
