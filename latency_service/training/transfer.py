"""Training from what is known of other targets of the same space: another device, thread count, batch or version.

LPNet is fitted to each other target's measurements, and then again to this target's with the other's parameters as the
centre of its priors (hierarchical Bayes with the strengths found by the evidence): ten measurements fix the level and
what a run costs whatever its widths, more of them how each kind of layer differs. Beside it the other targets'
predictions are mixed, and where there is enough to learn from, LPNet is fitted to this target's measurements alone; the
mean of them is taken, weighed by how little each errs. A stale predictor is repaired in the same way: the target as it
was is one more source. The form is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latency_service.spaces.layers import Layer
from latency_service.training.evaluation import FOLDS, fold_of
from latency_service.training.features import Features, build_features
from latency_service.training.lpnet import LPNet, fit_lpnets
from latency_service.training.parts import PartFeatures, Parts, build_part_features

Floats = npt.NDArray[np.float64]

#: Networks in the ensemble of LPNet.
MEMBERS = 3
#: Other targets that are tried in full: those that a straight line in log latency takes nearest to this one.
MOST_SOURCES = 3
#: Fewest architectures that a target must have had measured for an LPNet to be learned from it alone.
LEAST_KNOWN = 30
#: Measurements of the new target up to which several sources are tried; beyond, which one it is matters less than time.
MOST_WITH_SEVERAL = 60
#: How near to its source LPNet is kept, as factors of its priors' strengths [ours]: some targets differ by little more
#: than their level, some by the shapes of their staircases, and ten measurements do not tell which.
NEARNESS = (1.0, 100.0)
#: Measurements for each power by which the errors of several models weigh them, and the share that is left out.
TELLING, NEGLIGIBLE = 10, 0.1
#: Strengths tried of the pull towards equal shares.
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What was measured of the same space on another target, each architecture once or more often."""

    #: of the other target
    fingerprint: str
    #: [N, G]
    widths: npt.NDArray[np.number]
    #: [N]
    latency_ms: Floats


@dataclass(frozen=True, kw_only=True)
class Source:
    """Another target and the LPNet that was fitted to it."""

    fingerprint: str
    model: LPNet


def fit_sources(
    structure: Sequence[Layer] | Parts, known: Sequence[Known], seed: int, progress: Callable[[float], None]
) -> list[Source]:
    """An ensemble for each other target with enough measurements."""
    enough = [other for other in known if len(np.unique(other.widths, axis=0)) >= LEAST_KNOWN]
    sources = []
    for number, other in enumerate(enough):
        features = features_of(structure, other.widths)
        weights = np.ones((1, len(other.latency_ms)))
        (model,) = fit_lpnets(features, other.widths, other.latency_ms, weights, members=MEMBERS, seed=seed)
        sources.append(Source(fingerprint=other.fingerprint, model=model))
        progress((number + 1) / len(enough))
    return sources


def features_of(structure: Sequence[Layer] | Parts, widths: npt.NDArray[np.number]) -> Features | PartFeatures:
    """What LPNet sees of a network, standardised over `widths` [N, G]."""
    return build_part_features(structure, widths) if isinstance(structure, Parts) else build_features(structure, widths)


@dataclass(frozen=True, kw_only=True)
class Blend:
    """log latency = level + sum over sources of share * log latency there, in ms: other targets, bent and mixed."""

    models: Sequence[Any]
    #: [S]
    shares: Floats
    level: float

    def log_latency(self, widths: npt.NDArray[np.number]) -> Floats:
        """Logarithm of the latency [N] of `widths` [N, G]."""
        there = np.stack([model.log_latency(widths) for model in self.models], axis=1)
        return np.asarray(self.level + there @ self.shares)


def fit_blend(sources: Sequence[Source], widths: npt.NDArray[np.number], latency_ms: Floats, weights: Floats) -> Blend:
    """Of the nearest source, the nearest few, or all, what errs least when each measurement is left out in turn.

    Args:
        weights: of the measurements [N], 0 unseen.
    """
    seen = weights > 0
    ordered = nearest(sources, widths[seen], latency_ms[seen])
    there = np.stack([source.model.log_latency(widths[seen]) for source in ordered], axis=1)
    portions, target = weights[seen] / weights[seen].sum(), np.log(latency_ms[seen])
    level, middle = float(portions @ target), portions @ there
    fits = [
        (count, *_mix(there[:, :count] - middle[:count], target - level, portions))
        for count in sorted({1, min(MOST_SOURCES, len(ordered)), len(ordered)})
    ]
    count, shares, _ = min(fits, key=lambda fit: fit[2])
    models = [source.model for source in ordered[:count]]
    return Blend(models=models, shares=shares, level=level - float(middle[:count] @ shares))


def _mix(there: Floats, target: Floats, portions: Floats) -> tuple[Floats, float]:
    """Shares [S] of sources [n, S] by ridge towards equal ones that add up to 1, and their leave-one-out error."""
    equal, root = np.full(there.shape[1], 1 / there.shape[1]), np.sqrt(portions)
    wanted = root * (target - there @ equal)
    left, values, right = np.linalg.svd(root[:, None] * there, full_matrices=False)
    best, least = equal, np.inf
    for strength in RIDGES:
        shrunk = values**2 / (values**2 + strength)
        off = wanted - left @ (shrunk * (left.T @ wanted))
        error = float((root * np.abs(off / (1 - (left**2 @ shrunk) - portions))).sum())
        if error < least:
            best, least = equal + right.T @ (values / (values**2 + strength) * (left.T @ wanted)), error
    return best, least


def nearest(sources: Sequence[Source], widths: npt.NDArray[np.number], latency_ms: Floats) -> list[Source]:
    """The sources, that first whose predictions, on a line in log latency, leave the least."""
    target = np.log(latency_ms)

    def left(source: Source) -> float:
        there = source.model.log_latency(widths)
        line = np.polyfit(there, target, 1)
        return float(np.abs(target - np.polyval(line, there)).mean())

    return sorted(sources, key=left)


def fit_transferred(
    sources: Sequence[Source], widths: npt.NDArray[np.number], latency_ms: Floats, weights: Floats, *,
    seed: int, progress: Callable[[float], None],
) -> list[Blend]:  # fmt: skip
    """For each row of `weights` [K, N] the mean of a `fit_near` of each `NEARNESS`, a `fit_blend` and, from
    `LEAST_KNOWN` measurements on, an LPNet that knows no other target, by how little each kind errs unseen.

    A measurement's weight is 0 in the rows that do not see it; where every row sees everything, folds are added that do
    not. The few errors of ten measurements hardly tell the kinds apart and all count about alike; those of fifty do.
    """
    rows = weights
    if not (weights == 0).any():
        folds = fold_of(latency_ms, seed)
        rows = np.vstack([np.where(folds == np.arange(FOLDS)[:, None], 0.0, weights[0]), weights])
    kinds: list[Sequence[LPNet | Blend]] = [[fit_blend(sources, widths, latency_ms, row) for row in rows]]
    for number, nearness in enumerate(NEARNESS):

        def told(share: float, number: int = number) -> None:
            progress((number + share) / len(NEARNESS))

        kinds.append(fit_near(sources, widths, latency_ms, rows, nearness=nearness, seed=seed, progress=told))
    if len(latency_ms) >= LEAST_KNOWN:
        kinds.append(fit_lpnets(sources[0].model.features, widths, latency_ms, rows, members=MEMBERS, seed=seed))
    errors = np.array([_unseen_error(models, widths, latency_ms, rows) for models in kinds])
    portions = (errors.min() / errors) ** (len(latency_ms) / TELLING)
    portions[portions < NEGLIGIBLE * portions.sum()] = 0.0
    portions /= portions.sum()
    return [_mean(models, portions) for models in zip(*kinds, strict=True)][-len(weights) :]


def _mean(models: Sequence[LPNet | Blend], portions: Floats) -> Blend:
    """The mean of what the models say of log latency, each by its portion."""
    parts = [
        Blend(models=[model], shares=np.ones(1), level=0.0) if isinstance(model, LPNet) else model for model in models
    ]
    kept = [(part, portion) for part, portion in zip(parts, portions.tolist(), strict=True) if portion > 0]
    return Blend(
        models=[model for part, _ in kept for model in part.models],
        shares=np.concatenate([portion * part.shares for part, portion in kept]),
        level=sum(portion * part.level for part, portion in kept),
    )


def fit_near(
    sources: Sequence[Source], widths: npt.NDArray[np.number], latency_ms: Floats, weights: Floats, *,
    nearness: float, seed: int, progress: Callable[[float], None],
) -> list[LPNet]:  # fmt: skip
    """One ensemble for each row of `weights` [K, N], from the source whose transfer errs least where it was not seen.

    Rows that see everything have no say in the choice. `nearness`: see `fit_lpnets`.
    """
    best, least = None, np.inf
    tried = nearest(sources, widths, latency_ms)[: MOST_SOURCES if len(latency_ms) <= MOST_WITH_SEVERAL else 1]
    for number, source in enumerate(tried):
        models = fit_lpnets(
            source.model.features, widths, latency_ms, weights,
            members=MEMBERS, seed=seed, source=source.model, nearness=nearness,
        )  # fmt: skip
        progress((number + 1) / len(tried))
        error = _unseen_error(models, widths, latency_ms, weights)
        if error < least:
            best, least = models, error
    assert best is not None
    return best


def _unseen_error(
    models: Sequence[LPNet | Blend], widths: npt.NDArray[np.number], latency_ms: Floats, weights: Floats
) -> float:
    """Mean absolute error in log latency of each row's model where its weight is 0, never quite 0."""
    off = [
        np.abs(model.log_latency(widths[row == 0]) - np.log(latency_ms[row == 0]))
        for model, row in zip(models, weights, strict=True)
        if (row == 0).any()
    ]
    return float(np.concatenate(off).mean()) + 1e-9
