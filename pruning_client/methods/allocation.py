"""From scores to widths under a latency budget (docs/methods.md, "One interface", allocators A to
C).

Every allocator only returns widths on the target's lattice, at least each group's minimum, whose
predicted latency is at most the target. The predictor need not be monotone, so a grid is scanned
before bisecting. Widths are asked for in batches: one evaluation of the predictor for each round of
decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from latency_service.core.arrays import Floats, Ints
from pruning_client.errors import BudgetError

#: Latency [B] in ms of width vectors [B][G].
Latency = Callable[[Sequence[Sequence[int]]], Floats]
Lattice = Sequence[Sequence[int]]
GRID = 64
_BISECTIONS = 3
#: Exchanges end when the latency is this close below the target, relative, or after so many.
_CLOSE = 0.004
_EXCHANGES = 12
#: Lattice steps that a group takes in one exchange; one step where there are many groups.
_STRIDES = (1, 2)
_MANY_GROUPS = 40
#: Share of the kept score that one exchange may cost: scores are estimates, and unused latency is a
#: certain loss.
_TOLERATED = 0.003
_ASKED_AT_ONCE = 1024


def check_reachable(latency: Latency, lattice: Lattice, target_ms: float) -> None:
    """Raise `BudgetError` naming the lowest latency when even the narrowest architecture is above
    the target.
    """
    lowest = float(latency([narrowest(lattice)])[0])
    if lowest > target_ms:
        raise BudgetError(
            f"{target_ms:.4g} ms is below what this network can reach: the lowest predicted "
            "latency is "
            f"{lowest:.4g} ms, with every width group at its minimum.",
            "Give a larger budget, or a smaller network.",
        )


def narrowest(lattice: Lattice) -> list[int]:
    return [choices[0] for choices in lattice]


def round_up(widths: Sequence[float], lattice: Lattice) -> list[int]:
    """The next width of the lattice at or above each width [G]; the widest where there is none."""
    found = []
    for width, choices in zip(widths, lattice, strict=True):
        at = int(np.searchsorted(np.asarray(choices), width - 1e-9))
        found.append(int(choices[min(at, len(choices) - 1)]))
    return found


def threshold(
    scores: Sequence[Floats], latency: Latency, lattice: Lattice, target_ms: float
) -> list[int]:
    """Allocator A: one threshold on scores divided by their group's mean, as low as the budget
    allows.
    """
    check_reachable(latency, lattice, target_ms)
    normalised = [score / max(float(score.mean()), 1e-30) for score in scores]
    cuts = np.quantile(np.concatenate(normalised), np.linspace(0, 1, GRID))

    def at(share: float) -> list[int]:
        cut = float(np.interp(share, np.linspace(0, 1, GRID), cuts))
        return round_up([float((score >= cut).sum()) for score in normalised], lattice)

    return _least(at, latency, lattice, target_ms)


def uniform(
    scores: Sequence[Floats], latency: Latency, lattice: Lattice, target_ms: float
) -> list[int]:
    """Allocator B: the same share of every group, as large as the budget allows."""
    check_reachable(latency, lattice, target_ms)
    full = [len(score) for score in scores]
    return _least(
        lambda share: round_up([(1 - share) * width for width in full], lattice),
        latency,
        lattice,
        target_ms,
    )


def greedy(
    scores: Sequence[Floats], latency: Latency, lattice: Lattice, target_ms: float
) -> list[int]:
    """Allocator C: from full width, remove the chunk with the least score per millisecond until the
    budget is met.
    """
    return shrink([len(score) for score in scores], scores, latency, lattice, target_ms)


def shrink(
    widths: Sequence[int],
    scores: Sequence[Floats],
    latency: Latency,
    lattice: Lattice,
    target_ms: float,
) -> list[int]:
    """Remove chunks (a chunk = one lattice step of one group) of least score per millisecond until
    the target is met.

    Scores are above zero. Every step removes something, so the end is the target or the narrowest
    architecture.

    Raises:
        BudgetError: even the narrowest is above the target.
    """
    check_reachable(latency, lattice, target_ms)
    within = (
        current for current, now in _shrinking(widths, scores, latency, lattice) if now <= target_ms
    )
    return next(within, narrowest(lattice))


def removal_order(
    scores: Sequence[Floats], latency: Latency, lattice: Lattice, widths: Sequence[int]
) -> list[Ints]:
    """The place of each channel [G][C] in the order of `greedy`, first from full width down to
    `widths` [G], then on.

    Places are counted from the first channel that `widths` have: those that go before are below
    zero, the first of all lowest. Channels of one chunk go by their score; those that every
    architecture has come last, by theirs.
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
        gone = [
            (score[channel], g, channel)
            for g, score in enumerate(scores)
            for channel in worst_first[g][len(score) - before[g] : len(score) - after[g]]
        ]
        for _, g, channel in sorted(gone):
            place[g][channel] = at
            at += 1
    return place


def grow(
    widths: Sequence[int],
    scores: Sequence[Floats],
    latency: Latency,
    lattice: Lattice,
    target_ms: float,
) -> list[int]:
    """Add chunks of most score per millisecond as long as the target is still met: slack is
    accuracy not used.
    """
    current = round_up(widths, lattice)
    ranked = _ranked(scores)
    now = float(latency([current])[0])
    while True:
        trials = [_moved(current, lattice, g, +1) for g in range(len(current))]
        possible = [(g, trial) for g, trial in enumerate(trials) if trial is not None]
        if not possible:
            return current
        after = latency([trial for _, trial in possible])
        gained = np.array([ranked[g][current[g] : trial[g]].sum() for g, trial in possible])
        worth = np.where(after <= target_ms, gained / np.maximum(after - now, 1e-9), -np.inf)
        best = int(np.argmax(worth))
        if not np.isfinite(worth[best]):
            return current
        current = possible[best][1]
        now = float(after[best])


def exchange(
    widths: Sequence[int],
    scores: Sequence[Floats],
    latency: Latency,
    lattice: Lattice,
    target_ms: float,
) -> list[int]:
    """Use up slack that no single chunk fits into: one group gets wider while another gets
    narrower.

    Of the exchanges that raise the latency without passing the target the one that gains most score
    is taken; where none gains, the one that comes closest to the target at next to no cost. It ends
    within 0.4 % below the target, or where no exchange helps.
    """
    current = round_up(widths, lattice)
    kept = _cumulated(scores)
    now = float(latency([current])[0])
    for _ in range(_EXCHANGES):
        trials = _exchanges(current, lattice)
        if now >= target_ms * (1 - _CLOSE) or not len(trials):
            break
        after = _in_parts(latency, trials)
        value = sum(cumulated[trials[:, g]] for g, cumulated in enumerate(kept))
        total = sum(float(cumulated[current[g]]) for g, cumulated in enumerate(kept))
        gain = value - total
        fits = (after > now) & (after <= target_ms)
        gaining = fits & (gain > 0)
        cheap = fits & (gain > -_TOLERATED * total)
        if gaining.any():
            best = int(np.argmax(np.where(gaining, gain, -np.inf)))
        elif cheap.any():
            best = int(np.argmax(np.where(cheap, after, -np.inf)))
        else:
            break
        current = [int(width) for width in trials[best]]
        now = float(after[best])
    return current


def fit(
    widths: Sequence[int],
    scores: Sequence[Floats],
    latency: Latency,
    lattice: Lattice,
    target_ms: float,
) -> list[int]:
    """Widths near the given ones that use the target up: rounded to the wider lattice width,
    shrunk, grown, exchanged.

    Raises:
        BudgetError: even the narrowest architecture is above the target.
    """
    shrunk = shrink(widths, scores, latency, lattice, target_ms)
    grown = grow(shrunk, scores, latency, lattice, target_ms)
    return grow(
        exchange(grown, scores, latency, lattice, target_ms), scores, latency, lattice, target_ms
    )


Allocator = Callable[[Sequence[Floats], Latency, Lattice, float], list[int]]
AllocatorName = Literal["threshold", "uniform", "greedy"]
ALLOCATORS: Mapping[AllocatorName, Allocator] = {
    "threshold": threshold,
    "uniform": uniform,
    "greedy": greedy,
}


def _least(
    at: Callable[[float], list[int]], latency: Latency, lattice: Lattice, target_ms: float
) -> list[int]:
    """The smallest share in [0, 1] whose widths meet the target: grid first, then finer grids below
    the best.
    """
    low = 0.0
    high = 1.0
    best = narrowest(lattice)
    for _ in range(_BISECTIONS):
        shares = np.linspace(low, high, GRID)
        candidates = [at(float(share)) for share in shares]
        met = np.flatnonzero(latency(candidates) <= target_ms)
        if not len(met):
            break
        first = int(met[0])
        best = candidates[first]
        if first == 0:
            break
        low = float(shares[first - 1])
        high = float(shares[first])
    return best


def _shrinking(
    widths: Sequence[int], scores: Sequence[Floats], latency: Latency, lattice: Lattice
) -> Iterator[tuple[list[int], float]]:
    """Widths and their latency, ms: at first those given, then one chunk fewer each time, down to
    the narrowest.
    """
    current = round_up(widths, lattice)
    ranked = _ranked(scores)
    now = float(latency([current])[0])
    while True:
        yield current, now
        trials = [_moved(current, lattice, g, -1) for g in range(len(current))]
        possible = [(g, trial) for g, trial in enumerate(trials) if trial is not None]
        if not possible:
            return
        after = latency([trial for _, trial in possible])
        # a step that the predictor thinks slows the network down still frees channels: last resort,
        # not forbidden
        saved = np.maximum(now - after, 1e-9)
        lost = np.array([ranked[g][trial[g] : current[g]].sum() for g, trial in possible])
        best = int(np.argmin(lost / saved))
        current = possible[best][1]
        now = float(after[best])


def _ranked(scores: Sequence[Floats]) -> list[Floats]:
    """Scores from the best channel to the worst: a group of width n keeps the first n."""
    return [np.sort(score)[::-1] for score in scores]


def _moved(widths: Sequence[int], lattice: Lattice, group: int, direction: int) -> list[int] | None:
    at = list(lattice[group]).index(widths[group]) + direction
    if not 0 <= at < len(lattice[group]):
        return None
    return [int(lattice[group][at]) if g == group else width for g, width in enumerate(widths)]


def _cumulated(scores: Sequence[Floats]) -> list[Floats]:
    """For each group the score [C + 1] that its best n channels hold together."""
    return [np.concatenate([[0.0], np.cumsum(ranked)]) for ranked in _ranked(scores)]


def _exchanges(widths: Sequence[int], lattice: Lattice) -> Ints:
    """Width vectors [K, G] with one group wider, and another one narrower or none."""
    groups = range(len(widths))
    strides = _STRIDES if len(widths) <= _MANY_GROUPS else _STRIDES[:1]
    at = [list(choices).index(width) for choices, width in zip(lattice, widths, strict=True)]
    wider = [
        (g, lattice[g][at[g] + s]) for g in groups for s in strides if at[g] + s < len(lattice[g])
    ]
    narrower = [(g, lattice[g][at[g] - s]) for g in groups for s in strides if at[g] >= s]
    trials = []
    for up, more in wider:
        for down, less in [(up, more), *narrower]:
            if down != up or less == more:
                trial = list(widths)
                trial[down], trial[up] = less, more
                trials.append(trial)
    return np.array(trials, np.int64).reshape(len(trials), len(widths))


def _in_parts(latency: Latency, trials: Ints) -> Floats:
    parts = [trials[at : at + _ASKED_AT_ONCE] for at in range(0, len(trials), _ASKED_AT_ONCE)]
    return np.concatenate([latency(part.tolist()) for part in parts])
