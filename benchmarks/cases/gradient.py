"""The predictor's gradient against measured differences of one lattice step to either side.

ResNet-20 on one thread, its predictor trained on the measurements of ``lpnet``; 20 architectures
that it was not trained on. A difference counts where it exceeds what both its measurements leave
open.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from benchmarks.cases.lpnet import split, subject_store
from benchmarks.support.harness import Outcome, at_least
from benchmarks.support.measured import Floats, Store, Widths, lattice_of, predict
from latency_service.training.pipeline import train

ARCHITECTURES = 20
QUICK_ARCHITECTURES = 3
QUICK_GROUPS = 4


class Pair(NamedTuple):
    """One architecture with one group a lattice step narrower and a step wider."""

    architecture: int
    group: int
    narrower: list[int]
    wider: list[int]


def run(quick: bool) -> Outcome:
    """20 architectures and all groups; quick: three architectures and four groups."""
    store = subject_store("resnet20")
    seen, held = split(store, quick=quick)
    at = _inner(held.widths, lattice_of(store.space))[
        : QUICK_ARCHITECTURES if quick else ARCHITECTURES
    ]
    gradient = predict(train(seen.training_set()).artifact, at).gradient
    pairs = _pairs(at, lattice_of(store.space), QUICK_GROUPS if quick else len(store.space.groups))
    slopes, told_apart = _slopes(store, pairs)
    predicted = np.array([gradient[pair.architecture, pair.group] for pair in pairs])
    owner = np.array([pair.architecture for pair in pairs])[told_apart]
    measured = slopes[told_apart]
    predicted = predicted[told_apart]
    cosines = [
        _cosine(measured[owner == which], predicted[owner == which]) for which in np.unique(owner)
    ]
    signs = 100 * float((np.sign(measured) == np.sign(predicted)).mean())
    bars = [
        at_least("cosine, mean over architectures", float(np.mean(cosines)), 0.9, ""),
        at_least("differences of the same sign", signs, 95, "%"),
    ]
    data: dict[str, Any] = {
        "cosines": cosines,
        "differences": len(pairs),
        "told_apart": int(told_apart.sum()),
        "measured_ms_per_channel": measured,
        "predicted_ms_per_channel": predicted,
    }
    return Outcome(bars=bars, data={name: _plain(value) for name, value in data.items()})


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _inner(widths: Widths, lattice: list[list[int]]) -> Widths:
    """The architectures, groups at the end of their lattice moved one step inwards."""
    inner = widths.copy()
    for group, steps in enumerate(lattice):
        if len(steps) > 2:
            inner[:, group] = np.clip(inner[:, group], steps[1], steps[-2])
    return np.unique(inner, axis=0)[
        np.random.default_rng(0).permutation(len(np.unique(inner, axis=0)))
    ]


def _pairs(at: Widths, lattice: list[list[int]], groups: int) -> list[Pair]:
    pairs = []
    for number, widths in enumerate(at.tolist()):
        for group in range(min(groups, len(lattice))):
            steps = lattice[group]
            if len(steps) > 2:
                here = steps.index(widths[group])
                around = [
                    [*widths[:group], steps[near], *widths[group + 1 :]]
                    for near in (here - 1, here + 1)
                ]
                pairs.append(Pair(number, group, *around))
    return pairs


def _slopes(store: Store, pairs: list[Pair]) -> tuple[Floats, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Measured ms per channel of each pair, and whether the difference exceeds the noise."""
    wanted = np.unique([row for pair in pairs for row in (pair.narrower, pair.wider)], axis=0)
    found = store.measure(wanted)
    known = {
        tuple(row): (latency, latency * half)
        for row, latency, half in zip(
            found.widths.tolist(), found.latency_ms, found.half_width, strict=True
        )
    }
    slopes = np.zeros(len(pairs))
    told_apart = np.zeros(len(pairs), dtype=bool)
    for number, (_, group, narrower, wider) in enumerate(pairs):
        if tuple(narrower) in known and tuple(wider) in known:
            (low, low_half), (high, high_half) = known[tuple(narrower)], known[tuple(wider)]
            slopes[number] = (high - low) / (wider[group] - narrower[group])
            told_apart[number] = abs(high - low) > np.hypot(low_half, high_half)
    return slopes, told_apart


def _cosine(first: Floats, second: Floats) -> float:
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))
