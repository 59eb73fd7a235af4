"""Allocators A to C: from scores to widths under a latency budget, described in
docs/explanation/methods.md, "The parts".

Every allocator returns widths on the target's lattice, at or above each group's minimum, with a
predicted latency at or below the target. The predictor need not be monotone, so a grid is scanned
before it is refined. Widths are evaluated in batches: one call of the predictor for each round of
decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from latency_service.core.arrays import Bools, Floats, Ints
from pruning_client.errors import BudgetError
from pruning_client.methods.names import AllocatorName

#: Latency [B] in ms of width vectors [B][G].
Latency = Callable[[Sequence[Sequence[int]]], Floats]
Lattice = Sequence[Sequence[int]]
GRID = 64
_BISECTIONS = 3
#: Relative distance below the target at which exchanges end.
_CLOSE = 0.004
#: Maximum number of exchanges.
_EXCHANGES = 12
#: Numbers of lattice steps that a group takes in one exchange; only the first with many groups.
_STRIDES = (1, 2)
_MANY_GROUPS = 40
#: Share of the kept score that one exchange may cost: scores are estimates, and unused latency is a
#: certain loss.
_TOLERATED = 0.003
#: Maximum number of width vectors in one call of the predictor.
_PREDICTED_AT_ONCE = 1024
#: Lower bound of the latency that a chunk saves or costs, ms, so that its price is finite.
_LEAST_MS = 1e-9


def check_reachable(latency: Latency, lattice: Lattice, target_ms: float) -> None:
    """Check that the narrowest architecture meets the target.

    Raises:
        BudgetError: It does not; the message gives its latency, the lowest that is predicted.
    """
    lowest = float(latency([narrowest(lattice)])[0])
    if lowest > target_ms:
        raise BudgetError(
            f"{target_ms:.4g} ms is below what this network can reach: the lowest predicted "
            f"latency is {lowest:.4g} ms, with every width group at its minimum.",
            "Give a larger budget, or a smaller network.",
            lowest,
        )


def narrowest(lattice: Lattice) -> list[int]:
    """The smallest width of each group [G]."""
    return [choices[0] for choices in lattice]


def round_up(widths: Sequence[float], lattice: Lattice) -> list[int]:
    """The smallest lattice width at or above each width [G], or the widest if there is none."""
    found = []
    for width, choices in zip(widths, lattice, strict=True):
        at = int(np.searchsorted(np.asarray(choices), width - 1e-9))
        found.append(int(choices[min(at, len(choices) - 1)]))
    return found


def threshold(
    scores: Sequence[Floats], latency: Latency, lattice: Lattice, target_ms: float
) -> list[int]:
    """Allocator A: the lowest threshold, on scores divided by their group's mean, that meets the
    target.
    """
    check_reachable(latency, lattice, target_ms)
    normalised = [score / max(float(score.mean()), 1e-30) for score in scores]
    cuts = np.quantile(np.concatenate(normalised), np.linspace(0, 1, GRID))

    def at(share: float) -> list[int]:
        cut = float(np.interp(share, np.linspace(0, 1, GRID), cuts))
        return round_up([float((score >= cut).sum()) for score in normalised], lattice)

    return smallest_share(at, latency, lattice, target_ms)[1]


def uniform(
    scores: Sequence[Floats], latency: Latency, lattice: Lattice, target_ms: float
) -> list[int]:
    """Allocator B: the largest share of every group's channels that meets the target."""
    check_reachable(latency, lattice, target_ms)
    full = [len(score) for score in scores]
    _, widths = smallest_share(
        lambda share: round_up([(1 - share) * width for width in full], lattice),
        latency,
        lattice,
        target_ms,
    )
    return widths


def greedy(
    scores: Sequence[Floats], latency: Latency, lattice: Lattice, target_ms: float
) -> list[int]:
    """Allocator C: `shrink` from full width."""
    return shrink([len(score) for score in scores], scores, latency, lattice, target_ms)


def shrink(
    widths: Sequence[int],
    scores: Sequence[Floats],
    latency: Latency,
    lattice: Lattice,
    target_ms: float,
) -> list[int]:
    """Remove the chunk of least score per millisecond, again and again, until the target is met.

    A chunk is one lattice step of one group. Scores are positive. Every step removes a chunk, so
    the result meets the target or is the narrowest architecture.

    Raises:
        BudgetError: Even the narrowest architecture is above the target.
    """
    check_reachable(latency, lattice, target_ms)
    within = (
        current for current, now in _shrinking(widths, scores, latency, lattice) if now <= target_ms
    )
    return next(within, narrowest(lattice))


def removal_order(
    scores: Sequence[Floats], latency: Latency, lattice: Lattice, widths: Sequence[int]
) -> list[Ints]:
    """Place of each channel [G][C] in the order in which `greedy` removes them: from full width to
    `widths` [G], then on to the narrowest architecture.

    Place 0 is the first channel removed from `widths`; channels removed before have negative
    places. Channels of one chunk are ordered by score. Those that every architecture has come last,
    also by score.
    """
    place = [np.zeros(len(score), np.int64) for score in scores]
    worst_first = [np.argsort(score, kind="stable") for score in scores]
    full = [len(score) for score in scores]
    above = [
        [choice for choice in choices if choice >= width]
        for choices, width in zip(lattice, widths, strict=True)
    ]
    steps = [
        *_shrinking(full, scores, latency, above),
        *_shrinking(widths, scores, latency, lattice),
    ]
    at = sum(widths) - sum(full)
    for before, after in pairwise([*(current for current, _ in steps), [0] * len(full)]):
        for g, channel in _removed(scores, worst_first, before, after):
            place[g][channel] = at
            at += 1
    return place


def _removed(
    scores: Sequence[Floats],
    worst_first: Sequence[Ints],
    before: Sequence[int],
    after: Sequence[int],
) -> list[tuple[int, int]]:
    """Group and index of each channel removed between two width vectors [G], lowest score first."""
    removed = [
        (score[channel], g, channel)
        for g, score in enumerate(scores)
        for channel in worst_first[g][len(score) - before[g] : len(score) - after[g]]
    ]
    return [(g, channel) for _, g, channel in sorted(removed)]


def grow(
    widths: Sequence[int],
    scores: Sequence[Floats],
    latency: Latency,
    lattice: Lattice,
    target_ms: float,
) -> list[int]:
    """Add the chunk of most score per millisecond, again and again, while the target is met: unused
    latency is unused accuracy.
    """
    current = round_up(widths, lattice)
    ranked = _ranked(scores)
    now = float(latency([current])[0])
    while wider := _neighbours(current, lattice, +1):
        after = latency([trial for _, trial in wider])
        gained = np.array([ranked[g][current[g] : trial[g]].sum() for g, trial in wider])
        worth = np.where(after <= target_ms, gained / np.maximum(after - now, _LEAST_MS), -np.inf)
        best = int(np.argmax(worth))
        if not np.isfinite(worth[best]):
            break
        current = wider[best][1]
        now = float(after[best])
    return current


def exchange(
    widths: Sequence[int],
    scores: Sequence[Floats],
    latency: Latency,
    lattice: Lattice,
    target_ms: float,
) -> list[int]:
    """Use latency that no single chunk fits into: one group is widened while another is narrowed.

    Of the exchanges that raise the latency and still meet the target, the one that gains most score
    is taken. If none gains any, the one closest to the target is taken, provided that it costs
    little score. The search ends within 0.4 % below the target, or when no exchange helps.
    """
    current = round_up(widths, lattice)
    kept = _cumulated(scores)
    now = float(latency([current])[0])
    for _ in range(_EXCHANGES):
        trials = _exchanges(current, lattice)
        if now >= target_ms * (1 - _CLOSE) or not len(trials):
            break
        after = _predicted(latency, trials)
        total = sum(float(cumulated[current[g]]) for g, cumulated in enumerate(kept))
        value = sum(cumulated[trials[:, g]] for g, cumulated in enumerate(kept))
        gain = np.asarray(value - total)
        fits = (after > now) & (after <= target_ms)
        best = _best_exchange(fits, gain, after, tolerated=_TOLERATED * total)
        if best is None:
            break
        current = [int(width) for width in trials[best]]
        now = float(after[best])
    return current


def _best_exchange(fits: Bools, gain: Floats, after: Floats, *, tolerated: float) -> int | None:
    """Index of the exchange to take, of K that fit or not, with their gain in score and their
    latency in ms.
    """
    gaining = fits & (gain > 0)
    if gaining.any():
        return int(np.argmax(np.where(gaining, gain, -np.inf)))
    cheap = fits & (gain > -tolerated)
    if cheap.any():
        return int(np.argmax(np.where(cheap, after, -np.inf)))
    return None


def fit(
    widths: Sequence[int],
    scores: Sequence[Floats],
    latency: Latency,
    lattice: Lattice,
    target_ms: float,
) -> list[int]:
    """Widths near the given ones that use the target fully: rounded up to the lattice, then
    `shrink`, `grow`, `exchange` and `grow` again.

    Raises:
        BudgetError: Even the narrowest architecture is above the target.
    """
    shrunk = shrink(widths, scores, latency, lattice, target_ms)
    grown = grow(shrunk, scores, latency, lattice, target_ms)
    exchanged = exchange(grown, scores, latency, lattice, target_ms)
    return grow(exchanged, scores, latency, lattice, target_ms)


Allocator = Callable[[Sequence[Floats], Latency, Lattice, float], list[int]]
ALLOCATORS: Mapping[AllocatorName, Allocator] = {
    "threshold": threshold,
    "uniform": uniform,
    "greedy": greedy,
}


def smallest_share(
    at: Callable[[float], list[int]], latency: Latency, lattice: Lattice, target_ms: float
) -> tuple[float, list[int]]:
    """The smallest share in [0, 1] whose widths meet the target, and these widths [G]: a grid, then
    finer grids below the best share.

    Where no share meets the target it is 1, with the narrowest architecture.

    Args:
        at: Widths [G] of a share.
    """
    low = 0.0
    high = 1.0
    best = high, narrowest(lattice)
    for _ in range(_BISECTIONS):
        shares = np.linspace(low, high, GRID)
        candidates = [at(float(share)) for share in shares]
        met = np.flatnonzero(latency(candidates) <= target_ms)
        if not len(met):
            break
        first = int(met[0])
        best = float(shares[first]), candidates[first]
        if first == 0:
            break
        low = float(shares[first - 1])
        high = float(shares[first])
    return best


def _shrinking(
    widths: Sequence[int], scores: Sequence[Floats], latency: Latency, lattice: Lattice
) -> Iterator[tuple[list[int], float]]:
    """Widths and their latency, ms: the given ones first, then one chunk fewer each time, down to
    the narrowest architecture.
    """
    current = round_up(widths, lattice)
    ranked = _ranked(scores)
    now = float(latency([current])[0])
    yield current, now
    while narrower := _neighbours(current, lattice, -1):
        after = latency([trial for _, trial in narrower])
        # a step that is predicted to slow the network down still frees channels: it is the last
        # resort, not forbidden
        saved = np.maximum(now - after, _LEAST_MS)
        lost = np.array([ranked[g][trial[g] : current[g]].sum() for g, trial in narrower])
        best = int(np.argmin(lost / saved))
        current = narrower[best][1]
        now = float(after[best])
        yield current, now


def _ranked(scores: Sequence[Floats]) -> list[Floats]:
    """Scores from the best channel to the worst: a group of width n keeps the first n."""
    return [np.sort(score)[::-1] for score in scores]


def _neighbours(
    widths: Sequence[int], lattice: Lattice, direction: int
) -> list[tuple[int, list[int]]]:
    """Each group that can take one lattice step in this direction, and the widths [G] after it."""
    found = []
    for g, (width, choices) in enumerate(zip(widths, lattice, strict=True)):
        at = list(choices).index(width) + direction
        if 0 <= at < len(choices):
            found.append((g, [*widths[:g], int(choices[at]), *widths[g + 1 :]]))
    return found


def _cumulated(scores: Sequence[Floats]) -> list[Floats]:
    """For each group the total score [C + 1] of its best 0 to C channels."""
    return [np.concatenate([[0.0], np.cumsum(ranked)]) for ranked in _ranked(scores)]


def _exchanges(widths: Sequence[int], lattice: Lattice) -> Ints:
    """Width vectors [K, G] with one group wider, and at most one other group narrower."""
    narrower = _moves(widths, lattice, -1)
    trials = []
    for up, more in _moves(widths, lattice, +1):
        for down, less in [(up, more), *narrower]:
            if down != up or less == more:
                trial = list(widths)
                trial[down] = less
                trial[up] = more
                trials.append(trial)
    return np.array(trials, np.int64).reshape(len(trials), len(widths))


def _moves(widths: Sequence[int], lattice: Lattice, direction: int) -> list[tuple[int, int]]:
    """Groups and the widths that they can take in one exchange, in this direction."""
    strides = _STRIDES if len(widths) <= _MANY_GROUPS else _STRIDES[:1]
    moves = []
    for g, (width, choices) in enumerate(zip(widths, lattice, strict=True)):
        places = [list(choices).index(width) + direction * stride for stride in strides]
        moves += [(g, choices[at]) for at in places if 0 <= at < len(choices)]
    return moves


def _predicted(latency: Latency, trials: Ints) -> Floats:
    """Latency [K] of width vectors [K, G], ms."""
    starts = range(0, len(trials), _PREDICTED_AT_ONCE)
    parts = [trials[at : at + _PREDICTED_AT_ONCE] for at in starts]
    return np.concatenate([latency(part.tolist()) for part in parts])
