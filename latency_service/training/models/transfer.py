"""Training from what is known of other targets of the same space: another device, thread count,
batch or version.

LPNet is fitted to each other target's measurements, and then again to this target's with the
other's parameters as the centre of its priors (hierarchical Bayes with the strengths found by the
evidence): ten measurements determine the level and the fixed cost of a run, more of them how each
kind of layer differs. The other targets' predictions are also mixed (`mixtures`), and with enough
measurements LPNet is fitted to this target's alone; the result is the mean of all, weighted by the
inverse of their errors. A stale predictor is repaired in the same way: the target as it was is one
more source. The form is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from latency_service.core.arrays import Floats, Numbers
from latency_service.spaces.layers import Layer
from latency_service.training.evaluation import FOLDS, fold_of
from latency_service.training.models.block_features import (
    BlockFeatures,
    BlockLayout,
    build_block_features,
)
from latency_service.training.models.layer_features import LayerFeatures, build_layer_features
from latency_service.training.models.lpnet import LPNet, fit_lpnets
from latency_service.training.models.mixtures import (
    MOST_SOURCES,
    Blend,
    Model,
    fit_blend,
    fit_bottlenecks,
    mean,
    nearest,
    shares_by,
)

#: Networks in the ensemble of LPNet.
MEMBERS = 3
#: Fewest architectures that a target must have had measured for an LPNet to be learned from it
#: alone.
LEAST_KNOWN = 30
#: Measurements of the new target up to which several sources are tried; beyond, which one it is
#: matters less than time.
MOST_WITH_SEVERAL = 60
#: How near to its source LPNet is kept, as factors of its priors' strengths [ours]: some targets
#: differ by little more than their level, some by the shapes of their staircases, and ten
#: measurements do not tell which.
NEARNESS = (1.0, 100.0)
#: Measurements for each power by which the errors of several kinds weigh them.
TELLING = 10


@dataclass(frozen=True, kw_only=True)
class KnownTarget:
    """What was measured of the same space on another target, each architecture once or more
    often.
    """

    #: [N, G]
    widths: Numbers
    #: [N]
    latency_ms: Floats
    #: Id of that target; empty if it has none.
    target_id: str = ""


def fit_sources(
    structure: Sequence[Layer] | BlockLayout,
    known: Sequence[KnownTarget],
    seed: int,
    progress: Callable[[float], None],
) -> list[LPNet]:
    """An ensemble for each other target with enough measurements."""
    enough = [other for other in known if len(np.unique(other.widths, axis=0)) >= LEAST_KNOWN]
    sources = []
    for number, other in enumerate(enough):
        features = features_of(structure, other.widths)
        weights = np.ones((1, len(other.latency_ms)))
        (model,) = fit_lpnets(
            features, other.widths, other.latency_ms, weights, members=MEMBERS, seed=seed
        )
        sources.append(model)
        progress((number + 1) / len(enough))
    return sources


def features_of(
    structure: Sequence[Layer] | BlockLayout, widths: Numbers
) -> LayerFeatures | BlockFeatures:
    """What LPNet sees of a network, standardised over `widths` [N, G]."""
    return (
        build_block_features(structure, widths)
        if isinstance(structure, BlockLayout)
        else build_layer_features(structure, widths)
    )


def fit_transferred(
    sources: Sequence[LPNet],
    widths: Numbers,
    latency_ms: Floats,
    weights: Floats,
    *,
    seed: int,
    progress: Callable[[float], None],
) -> list[Blend]:
    """For each row of `weights` [K, N] the mean of a `fit_near` of each `NEARNESS`, a `fit_blend`,
    `fit_bottlenecks` and, from `LEAST_KNOWN` measurements on, an LPNet without other targets,
    weighted by the cross-validation error of each kind.

    A measurement's weight is 0 in the rows that do not see it; where every row sees everything,
    folds are added that do not. The few errors of ten measurements hardly tell the kinds apart and
    all count about alike; those of fifty do.
    """
    rows = weights
    if not (weights == 0).any():
        folds = fold_of(latency_ms, seed)
        rows = np.vstack([np.where(folds == np.arange(FOLDS)[:, None], 0.0, weights[0]), weights])
    kinds: list[Sequence[Model]] = [
        [fit(sources, widths, latency_ms, row) for row in rows]
        for fit in (fit_blend, fit_bottlenecks)
    ]
    for number, nearness in enumerate(NEARNESS):

        def report(share: float, number: int = number) -> None:
            progress((number + share) / len(NEARNESS))

        kinds.append(
            fit_near(
                sources, widths, latency_ms, rows, nearness=nearness, seed=seed, progress=report
            )
        )
    if len(latency_ms) >= LEAST_KNOWN:
        kinds.append(
            fit_lpnets(sources[0].features, widths, latency_ms, rows, members=MEMBERS, seed=seed)
        )
    errors = np.array([_unseen_error(models, widths, latency_ms, rows) for models in kinds])
    shares = shares_by(errors, len(latency_ms) / TELLING)
    means = [mean([models[row] for models in kinds], shares) for row in range(len(rows))]
    return means[-len(weights) :]


def fit_near(
    sources: Sequence[LPNet],
    widths: Numbers,
    latency_ms: Floats,
    weights: Floats,
    *,
    nearness: float,
    seed: int,
    progress: Callable[[float], None],
) -> list[LPNet]:
    """One ensemble for each row of `weights` [K, N], from the source with the lowest error on the
    measurements that the row does not see.

    Rows that see everything have no say in the choice. `nearness`: see `fit_lpnets`.
    """
    best = None
    least = np.inf
    tried = nearest(sources, widths, latency_ms)[
        : MOST_SOURCES if len(latency_ms) <= MOST_WITH_SEVERAL else 1
    ]
    for number, source in enumerate(tried):
        models = fit_lpnets(
            source.features,
            widths,
            latency_ms,
            weights,
            members=MEMBERS,
            seed=seed,
            source=source,
            nearness=nearness,
        )
        progress((number + 1) / len(tried))
        error = _unseen_error(models, widths, latency_ms, weights)
        if error < least:
            best = models
            least = error
    assert best is not None
    return best


def _unseen_error(
    models: Sequence[Model], widths: Numbers, latency_ms: Floats, weights: Floats
) -> float:
    """Mean absolute error in log latency of each row's model where its weight is 0, never
    quite 0.
    """
    off = [
        np.abs(model.log_latency(widths[row == 0]) - np.log(latency_ms[row == 0]))
        for model, row in zip(models, weights, strict=True)
        if (row == 0).any()
    ]
    return float(np.concatenate(off).mean()) + 1e-9
