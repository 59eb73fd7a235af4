"""What models see of a network that is given as a plain vector of widths and choices instead of a
graph.

A vector's columns are dealt to *parts*: pieces of the network (its blocks, say) whose latencies add
up. All parts have the same roles (expansion, kernel, channels, ...), so that one small network can
learn what a part costs from all of them. Choices become hat functions, one for each value: exact at
the values that occur, linear between them, and so differentiable as everything else here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latency_service.core.arrays import Floats, Ints, Numbers

#: A role with at most this many different values is a choice: each value is learned by itself.
MOST_CHOICES = 8
#: Logarithm of the size of a part that is not there.
ABSENT = -60.0


@dataclass(frozen=True, kw_only=True)
class BlockLayout:
    """How the columns of a vector make up a network."""

    #: the column that plays each role in each part [L][R]; None where the part has no such role (it
    #: counts as 1)
    columns: Sequence[Sequence[int | None]]
    #: the roles, by number, that a part's latency is about proportional to, as often as they are
    #: named; a part is absent where one of them is 0
    size: Sequence[int] = ()

    def at(self, vectors: Floats) -> Floats:
        """Values [N, L, R] of the roles at `vectors` [N, D]."""
        return np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1)[
            :, self.index(vectors.shape[1])
        ]

    def index(self, count: int) -> Ints:
        """The columns [L, R] of a vector of `count` values and a 1 behind them."""
        return np.array(
            [[count if column is None else column for column in part] for part in self.columns]
        )


@dataclass(frozen=True, kw_only=True)
class BlockFeatures:
    """Features of the parts, standardised over those present: ``basis(values) @ matrix + offset``.

    The basis is ``max(0, value of a role - knot)`` for each knot and ``log max(value, floor)`` for
    each role.
    """

    layout: BlockLayout
    #: the role of each knot, and where it is [K]
    roles: Ints
    knots: Floats
    #: [R]
    floor: Floats
    #: [K + R, F] and [L, F]
    matrix: Floats
    offset: Floats

    @property
    def size(self) -> int:
        """Number of features F of a part."""
        return int(self.matrix.shape[1])

    def at(self, vectors: Numbers) -> Floats:
        """Features [N, L, F] of all parts at `vectors` [N, D]."""
        values = self.layout.at(vectors.astype(np.float64))
        return np.asarray(
            _basis(values, self.roles, self.knots, self.floor) @ self.matrix + self.offset
        )

    def hats_at(self, vectors: Numbers) -> Floats:
        """Hat functions [N, L, 0] of all parts: those of choices are among the features."""
        return np.zeros((len(vectors), len(self.layout.columns), 0))

    def log_macs(self, vectors: Numbers) -> Floats:
        """Logarithm of the size [N, L] of all parts at `vectors` [N, D]."""
        sizes = _sizes(self.layout, self.layout.at(vectors.astype(np.float64)))
        return np.where(sizes > 0, np.log(np.where(sizes > 0, sizes, 1.0)), ABSENT)


def build_block_features(layout: BlockLayout, vectors: Numbers) -> BlockFeatures:
    """The features of `layout`, standardised over the blocks present at `vectors` [N, D]."""
    values = layout.at(vectors.astype(np.float64))
    present = _sizes(layout, values) > 0
    basis = _choose_basis(values[present])
    own = np.eye(len(layout.columns)) if len(layout.columns) > 1 else np.zeros((1, 0))
    matrix = np.concatenate([basis.matrix, np.zeros((len(basis.matrix), own.shape[1]))], axis=1)
    offset = np.concatenate([np.zeros((len(own), basis.matrix.shape[1])), own], axis=1)
    at = _basis(values, basis.roles, basis.knots, basis.floor)
    raw = (at @ matrix + offset)[present]
    used = raw.std(0) > 1e-6
    mean = raw[:, used].mean(0)
    deviation = raw[:, used].std(0)
    return BlockFeatures(
        layout=layout,
        roles=basis.roles,
        knots=basis.knots,
        floor=basis.floor,
        matrix=matrix[:, used] / deviation,
        offset=(offset[:, used] - mean) / deviation,
    )


@dataclass(frozen=True, kw_only=True)
class _Basis:
    """Knots, floors and the matrix [K + R, F] from the basis to the features of all parts, before
    standardisation.
    """

    roles: Ints
    knots: Floats
    floor: Floats
    matrix: Floats


def _choose_basis(seen: Floats) -> _Basis:
    """The basis for the values `seen` [n, R] of the roles: hats for choices, a logarithm for
    positive quantities, and a ramp for the others.
    """
    knots_by_role = []
    blocks = []
    floor = np.ones(seen.shape[1])
    logs = []
    for role, column in enumerate(seen.T):
        different = np.unique(column)
        if different[0] > 0 and len(different) > 2:
            logs.append(role)
            floor[role] = different[0]
        knots, block = _knots_of(different)
        knots_by_role.append(knots)
        blocks += [] if block is None else [block]
    counts = [len(knots) for knots in knots_by_role]
    return _Basis(
        roles=np.repeat(np.arange(len(counts), dtype=np.int64), counts),
        knots=np.concatenate(knots_by_role),
        floor=floor,
        matrix=_block_diagonal([*blocks, np.eye(len(floor))[:, logs]]),
    )


def _knots_of(different: Floats) -> tuple[Floats, Floats | None]:
    """Knots of a role whose values are `different`, ascending, and their block of the matrix."""
    if 2 <= len(different) <= MOST_CHOICES:
        return different, _hats(different)
    if len(different) > MOST_CHOICES and different[0] <= 0:
        return different[:1], np.ones((1, 1))
    return different[:0], None


def whole(count: int) -> BlockLayout:
    """A network of one part that `count` columns describe."""
    return BlockLayout(columns=[range(count)])


def _sizes(layout: BlockLayout, values: Floats) -> Floats:
    return np.asarray(values[..., list(layout.size)].prod(-1))


def _basis(values: Floats, roles: Ints, knots: Floats, floor: Floats) -> Floats:
    beyond = np.maximum(values[..., roles] - knots, 0)
    return np.concatenate([beyond, np.log(np.maximum(values, floor))], axis=-1)


def _hats(choices: Floats) -> Floats:
    """What the ramps that begin at `choices` [C] weigh in the hats of all choices but the first [C,
    C - 1].
    """
    gaps = np.diff(choices)
    weights = np.zeros((len(choices), len(gaps)))
    for hat, gap in enumerate(gaps):
        weights[hat, hat] += 1 / gap
        weights[hat + 1, hat] -= 1 / gap
        if hat + 1 < len(gaps):
            weights[hat + 1, hat] -= 1 / gaps[hat + 1]
            weights[hat + 2, hat] += 1 / gaps[hat + 1]
    return weights


def _block_diagonal(blocks: Sequence[Floats]) -> Floats:
    matrix = np.zeros(
        (sum(len(block) for block in blocks), sum(block.shape[1] for block in blocks))
    )
    row = column = 0
    for block in blocks:
        matrix[row : row + block.shape[0], column : column + block.shape[1]] = block
        row = row + block.shape[0]
        column = column + block.shape[1]
    return matrix
