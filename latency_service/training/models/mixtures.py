"""What the latencies of other targets say about this one's, with no more than a few numbers to be
learned here.

Two forms, both ours. A *blend* is a weighted sum of log latencies, and a level: targets that differ
by powers of what the same layers take. A *bottleneck* is the slower of two things that a run waits
for: on a GPU, say, launching kernels, which a target with a batch of 1 shows, and arithmetic, which
one with a batch of 64 shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol, TypeVar

import numpy as np

from latency_service.core.arrays import Floats, Numbers

#: Other targets that are tried in full: those that a straight line in log latency takes nearest to
#: this one.
MOST_SOURCES = 3
#: Strengths tried of the pull towards equal shares.
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
#: How sharply the slower of two hides the other: with 1 they add up.
SHARPNESSES = (1.0, 4.0, 16.0)
#: Shares of the architectures on which the one limits a run and not the other.
CROSSINGS = np.linspace(0.05, 0.95, 19)
#: Bottlenecks that are averaged, and measurements for each power by which their errors weigh them.
MOST_BOTTLENECKS = 8
TELLING = 2
#: Of several models those that weigh less than this, beside the best, are left out.
NEGLIGIBLE = 0.1


class Model(Protocol):
    """What every fitted model can do."""

    def log_latency(self, widths: Numbers) -> Floats:
        """Logarithm of the latency in ms [N] of `widths` [N, G]."""
        ...


AnyModel = TypeVar("AnyModel", bound=Model)


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A latency of 1 ms at all widths."""

    def log_latency(self, widths: Numbers) -> Floats:
        """Zeros [N]."""
        return np.zeros(len(widths))


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """latency = (sum over models of (factor * latency)^sharpness)^(1 / sharpness), in ms: a smooth
    maximum.
    """

    #: Models, one of each other target, or what they are served as [M].
    models: Sequence[Any]
    #: [M]
    log_factors: Floats
    sharpness: float

    def log_latency(self, widths: Numbers) -> Floats:
        """Logarithm of the latency [N] of `widths` [N, G]."""
        each = [
            model.log_latency(widths) + factor
            for model, factor in zip(self.models, self.log_factors, strict=True)
        ]
        return np.asarray(np.logaddexp.reduce(self.sharpness * np.stack(each)) / self.sharpness)


@dataclass(frozen=True, kw_only=True)
class Blend:
    """log latency = level + sum over models of share * log latency, in ms: bent and mixed."""

    #: Weights and offsets as those of a `Bottleneck` [M].
    models: Sequence[Any]
    #: [M]
    shares: Floats
    level: float

    def log_latency(self, widths: Numbers) -> Floats:
        """Logarithm of the latency [N] of `widths` [N, G]."""
        each = np.stack([model.log_latency(widths) for model in self.models], axis=1)
        return np.asarray(self.level + each @ self.shares)


def nearest(models: Sequence[AnyModel], widths: Numbers, latency_ms: Floats) -> list[AnyModel]:
    """The models, that first whose predictions, on a line in log latency, leave the least."""
    target = np.log(latency_ms)

    def left(model: AnyModel) -> float:
        there = model.log_latency(widths)
        line = np.polyfit(there, target, 1)
        return float(np.abs(target - np.polyval(line, there)).mean())

    return sorted(models, key=left)


def fit_blend(
    models: Sequence[Model], widths: Numbers, latency_ms: Floats, weights: Floats
) -> Blend:
    """The nearest model, the nearest few, or all: the one with the lowest leave-one-out error.

    Args:
        weights: Weights of the measurements [N]; 0 for held-out ones.
    """
    seen = weights > 0
    ordered = nearest(models, widths[seen], latency_ms[seen])
    there = np.stack([model.log_latency(widths[seen]) for model in ordered], axis=1)
    portions = weights[seen] / weights[seen].sum()
    target = np.log(latency_ms[seen])
    level = float(portions @ target)
    middle = portions @ there
    fits = [
        (count, *_mix(there[:, :count] - middle[:count], target - level, portions))
        for count in sorted({1, min(MOST_SOURCES, len(ordered)), len(ordered)})
    ]
    count, shares, _ = min(fits, key=lambda fit: fit[2])
    return Blend(
        models=ordered[:count], shares=shares, level=level - float(middle[:count] @ shares)
    )


def _mix(there: Floats, target: Floats, portions: Floats) -> tuple[Floats, float]:
    """Shares [S] of models [n, S] by ridge towards equal ones that add up to 1, and their
    leave-one-out error.
    """
    equal = np.full(there.shape[1], 1 / there.shape[1])
    root = np.sqrt(portions)
    wanted = root * (target - there @ equal)
    left, values, right = np.linalg.svd(root[:, None] * there, full_matrices=False)
    best = equal
    least = np.inf
    for strength in RIDGES:
        shrunk = values**2 / (values**2 + strength)
        off = wanted - left @ (shrunk * (left.T @ wanted))
        error = float((root * np.abs(off / (1 - (left**2 @ shrunk) - portions))).sum())
        if error < least:
            best = equal + right.T @ (values / (values**2 + strength) * (left.T @ wanted))
            least = error
    return best, least


def fit_bottlenecks(
    models: Sequence[Model], widths: Numbers, latency_ms: Floats, weights: Floats
) -> Blend:
    """The mean of the bottlenecks of two models, or of one and a constant, that err least.

    A bottleneck's level is fitted; where the two cross and how sharply are tried. They weigh by a
    power of the error that grows with the measurements. Each measurement is left out in turn for
    the level alone, so the errors compare bottlenecks with each other, and flatter all of them.

    Args:
        weights: Weights of the measurements [N]; 0 for held-out ones.
    """
    seen = weights > 0
    both = [*models, Constant()]
    there = [model.log_latency(widths[seen]) for model in both]
    portions = weights[seen] / weights[seen].sum()
    target = np.log(latency_ms[seen])
    tried: list[tuple[float, Bottleneck]] = []
    for (first, u), (second, v) in combinations(zip(both, there, strict=True), 2):
        for sharpness in SHARPNESSES:
            error, factors = _crossed(u, v, sharpness, target, portions)
            tried.append(
                (
                    error,
                    Bottleneck(models=[first, second], log_factors=factors, sharpness=sharpness),
                )
            )
    best = sorted(tried, key=lambda entry: entry[0])[:MOST_BOTTLENECKS]
    errors = np.array([error for error, _ in best]) + 1e-9
    return mean(
        [bottleneck for _, bottleneck in best], shares_by(errors, np.count_nonzero(seen) / TELLING)
    )


def _crossed(
    first: Floats, second: Floats, sharpness: float, target: Floats, portions: Floats
) -> tuple[float, Floats]:
    """Leave-one-out error and logarithms of the factors [2] with which two log latencies [n]
    explain a third, where they cross best: among the measurements, then nearer to the best of
    those.
    """
    ratios = np.quantile(first - second, CROSSINGS)
    found = (np.inf, np.zeros(2))
    for _ in range(2):
        off = (
            target
            - np.logaddexp(sharpness * first, sharpness * (second + ratios[:, None])) / sharpness
        )
        levels = off @ portions
        errors = np.abs((off - levels[:, None]) / (1 - portions)) @ portions
        best = int(errors.argmin())
        if errors[best] < found[0]:
            found = float(errors[best]), levels[best] + np.array([0.0, ratios[best]])
        ratios = np.linspace(
            ratios[max(best - 1, 0)], ratios[min(best + 1, len(ratios) - 1)], len(ratios)
        )
    return found


def shares_by(errors: Floats, power: float) -> Floats:
    """What models [M] weigh in their mean, by a power of the inverse of their errors."""
    shares = (errors.min() / errors) ** power
    shares[shares < NEGLIGIBLE] = 0.0
    return np.asarray(shares / shares.sum())


def mean(models: Sequence[Model], shares: Floats) -> Blend:
    """The mean of what models say of log latency; those without a share are left out."""
    kept = np.flatnonzero(shares)
    return Blend(models=[models[place] for place in kept.tolist()], shares=shares[kept], level=0.0)
