"""From measurements to a predictor: every model is fitted and compared, the best differentiable one
is served.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import sklearn
import torch
from threadpoolctl import threadpool_limits

from latency_service.core.arrays import Floats, Ints
from latency_service.predictors.schemas import (
    HeldOut,
    LearningPoint,
    ModelErrors,
    Sidecar,
)
from latency_service.spaces.layers import Layer, layers
from latency_service.training.artifact.export import export
from latency_service.training.artifact.lookup_tables import Grid, Tables
from latency_service.training.dataset import (
    LEAST_ARCHITECTURES,
    Architectures,
    TrainingError,
    TrainingSet,
    VectorSet,
    merge,
)
from latency_service.training.evaluation import errors, fold_of
from latency_service.training.held_out import held_out_pairs
from latency_service.training.intervals import LEVEL, coverage, gain, half_width
from latency_service.training.models.baselines import LOWEST_SHARE, FlopsLine
from latency_service.training.models.block_features import BlockLayout
from latency_service.training.models.lpnet import LPNet
from latency_service.training.models.mixtures import Blend, Bottleneck, Model
from latency_service.training.models.registry import (
    TRANSFERRED,
    CandidateModel,
    Problem,
    candidate_models,
)
from latency_service.training.models.transfer import KnownTarget, fit_sources

__all__ = ["KnownTarget", "Trained", "TrainingError", "TrainingSet", "VectorSet", "train"]

Progress = Callable[[str, float], None]

#: Share of a group's minimum width below which all widths are predicted alike.
FLOOR_SHARE = 0.5
#: Number of standard errors by which another kind of model must have a lower cross-validation error
#: than the transferred one. Of several kinds one is often better by two standard errors by chance:
#: in 120 draws of ten measurements, 1.5 accepted three models, two of them much worse.
SIGNIFICANT = 3.0
#: Shares of the measurements at the points of the learning curve before its last.
CURVE_SHARES = (0.25, 0.5, 0.75)
PACKAGES = ("torch", "onnx", "scikit-learn", "numpy", "latency-service")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A complete predictor."""

    #: ONNX file.
    artifact: bytes
    sidecar: Sidecar
    #: Predictions of cross-validation.
    held_out: HeldOut


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """A kind of model with its cross-validation error."""

    candidate: CandidateModel
    #: Held-out predictions [N], log of ms.
    held_out: Floats
    errors: ModelErrors
    #: Model fitted to all measurements.
    model: Model
    #: Expected ratio of this model's errors to those of cross-validation.
    gain: float


@dataclass(frozen=True, kw_only=True)
class _Evaluation:
    """Comparison of all kinds of model, and the evaluation of the served one."""

    served: _Compared
    compared: Sequence[_Compared]
    curve: list[LearningPoint]
    #: Share of held-out measurements inside the interval.
    coverage: float


def train(
    data: TrainingSet | VectorSet,
    *,
    sources: Sequence[LPNet] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Fit, compare, choose, calibrate and export; deterministic given `data`.

    Args:
        sources: models of other targets; by default they are fitted to `data.known`.
        progress: called often, with the phase and the finished share of all work.

    Raises:
        TrainingError: too few architectures, latencies that are not positive, or widths that change
            nothing.
        SpaceError: the measurements' widths do not fit the space, or shape inference does not reach
            a layer.
    """
    began = time.monotonic()
    report = progress or (lambda phase, share: None)
    report("reading the layers", 0.0)
    measured = merge(data)
    folds = fold_of(measured.latency_ms, data.seed)
    # the data have been checked: scikit-learn need not check them again for each of its trees
    checked = sklearn.config_context(assume_finite=True, skip_parameter_validation=True)
    with _one_thread(), checked:
        if sources is None:
            sources = _sources(data, _part(report, "learning from other targets", 0.0, 0.1))
        problem = _problem(data, measured, folds, sources)
        compared = _compare(problem, folds, report)
        served = _served(compared, measured.latency_ms)
        curve = _learning_curve(served, problem, _part(report, "learning curve", 0.9, 0.08))
        report("exporting", 0.98)
        residuals = served.gain * (np.log(measured.latency_ms) - served.held_out)
        artifact = _artifact(served.model, problem, data, residuals)
    evaluation = _Evaluation(
        served=served, compared=compared, curve=curve, coverage=coverage(residuals, folds)
    )
    sidecar = _sidecar(data, measured, evaluation, time.monotonic() - began)
    report("done", 1.0)
    pairs = held_out_pairs(measured, served.held_out, residuals, folds)
    return Trained(artifact=artifact, sidecar=sidecar, held_out=pairs)


def _part(report: Progress, phase: str, start: float, size: float) -> Callable[[float], None]:
    """Progress of a phase that takes the share `size` of all work, from the share `start` on."""
    return lambda share: report(phase, start + size * share)


def _artifact(
    model: Model, problem: Problem, data: TrainingSet | VectorSet, residuals: Floats
) -> bytes:
    return export(
        _served_form(model, problem, data),
        groups=len(data.names),
        half_width=half_width(residuals),
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch and scikit-learn to one thread.

    The matrices are small. On a busy machine, such as one that also measures, threads that wait for
    each other made training ten times slower.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def _structure(data: TrainingSet | VectorSet) -> Sequence[Layer] | BlockLayout | None:
    return layers(data.space) if isinstance(data, TrainingSet) else data.layout


def _sources(data: TrainingSet | VectorSet, reported: Callable[[float], None]) -> list[LPNet]:
    structure = _structure(data)
    return [] if structure is None else fit_sources(structure, data.known, data.seed, reported)


def _problem(
    data: TrainingSet | VectorSet,
    measured: Architectures,
    folds: Ints,
    sources: Sequence[LPNet],
) -> Problem:
    """One fit for each fold, without its measurements, and one with all measurements."""
    full = np.array(data.full_widths, dtype=np.float64)
    rows = [np.where(folds == fold, 0.0, measured.weights) for fold in range(folds.max() + 1)]
    return Problem(
        structure=_structure(data),
        full=np.where(full > 0, full, 1.0),
        floor=FLOOR_SHARE * np.array(data.minimum_widths),
        widths=measured.widths,
        latency_ms=measured.latency_ms,
        weights=np.stack([*rows, measured.weights]),
        sources=sources,
        seed=data.seed,
    )


def _compare(problem: Problem, folds: Ints, report: Progress) -> list[_Compared]:
    """Every kind of model, cross-validated on the same folds."""
    compared: list[_Compared] = []
    candidates = candidate_models(problem)
    whole = sum(candidate.share for candidate in candidates)
    done = 0.0
    for candidate in candidates:
        start = 0.1 + 0.8 * done / whole
        size = 0.8 * candidate.share / whole
        reported = _part(report, f"training {candidate.name}", start, size)
        compared.append(_cross_validated(candidate, problem, folds, reported))
        done += candidate.share
    return compared


def _cross_validated(
    candidate: CandidateModel, problem: Problem, folds: Ints, reported: Callable[[float], None]
) -> _Compared:
    models = candidate.fit(problem, reported)
    held_out = _held_out(models, problem, folds)
    return _Compared(
        candidate=candidate,
        held_out=held_out,
        errors=errors(
            candidate.name, held_out, problem.latency_ms, differentiable=candidate.differentiable
        ),
        model=models[-1],
        gain=_gain(models, folds),
    )


def _served(compared: Sequence[_Compared], latency_ms: Floats) -> _Compared:
    """The differentiable kind with the lowest cross-validation error, or the transferred one unless
    that is significantly worse: with ten measurements another kind may have the lowest error by
    chance, although it ranks nothing right.
    """
    best = min(
        (entry for entry in compared if entry.errors.differentiable),
        key=lambda entry: entry.errors.mape,
    )
    transferred = [entry for entry in compared if entry.candidate is TRANSFERRED]
    for entry in transferred:
        if entry is not best and not _is_worse(entry, best, latency_ms):
            return entry
    return best


def _is_worse(entry: _Compared, best: _Compared, latency_ms: Floats) -> bool:
    """Whether the held-out errors of `entry` are significantly greater than those of `best`."""
    first, second = (np.abs(np.expm1(one.held_out - np.log(latency_ms))) for one in (entry, best))
    difference = first - second
    standard_error = difference.std(ddof=1) / np.sqrt(len(difference))
    return not difference.mean() < SIGNIFICANT * standard_error


def _learning_curve(
    served: _Compared, problem: Problem, reported: Callable[[float], None]
) -> list[LearningPoint]:
    """Errors of the served kind of model, fitted to part of the measurements, on the others; the
    last point is its cross-validation error.
    """
    count = len(problem.latency_ms)
    order = np.random.default_rng(problem.seed).permutation(count)
    sizes = [round(share * count) for share in CURVE_SHARES]
    sizes = [size for size in sizes if size >= LEAST_ARCHITECTURES]
    points = []
    for number, size in enumerate(sizes):
        points.append(_learning_point(served.candidate, problem, order, size))
        reported((number + 1) / len(sizes))
    return [*points, LearningPoint(measurements=count, mape=served.errors.mape)]


def _learning_point(
    candidate: CandidateModel, problem: Problem, order: Ints, size: int
) -> LearningPoint:
    """Error after training on the first `size` measurements of `order` [N], on the others."""
    seen = np.sort(order[:size])
    rest = order[size:]
    part = replace(
        problem,
        widths=problem.widths[seen],
        latency_ms=problem.latency_ms[seen],
        weights=problem.weights[-1:, seen],
    )
    (model,) = candidate.fit(part, lambda share: None)
    off = np.expm1(model.log_latency(problem.widths[rest]) - np.log(problem.latency_ms[rest]))
    return LearningPoint(measurements=size, mape=100 * float(np.abs(off).mean()))


def _held_out(models: Sequence[Model], problem: Problem, folds: Ints) -> Floats:
    """Log latency [N] of each architecture, predicted by the model fitted without it."""
    predicted = np.empty(len(folds))
    for fold in np.unique(folds):
        predicted[folds == fold] = models[fold].log_latency(problem.widths[folds == fold])
    return predicted


def _gain(models: Sequence[Model], folds: Ints) -> float:
    """Expected ratio of the errors of the whole model to those of cross-validation; 1 for models
    without an expected deviation.
    """
    nets = [model for model in models if isinstance(model, LPNet)]
    if len(nets) < len(models):
        return 1.0
    expected = np.stack([net.unseen_deviation for net in nets])
    return gain(expected[-1], expected[folds, np.arange(len(folds))])


def _served_form(model: Model, problem: Problem, data: TrainingSet | VectorSet) -> object:
    """The form in which a model is served. Sums over a graph's layers become tables, exact at the
    lattice and at every measured width.
    """
    if isinstance(data, VectorSet):
        return model
    grid = Grid(problem.layers, _knots(data, problem), problem.floor)
    tables = dict[int, Tables]()

    def form(model: Any) -> object:
        if isinstance(model, Blend | Bottleneck):
            return replace(model, models=[form(inner) for inner in model.models])
        if not isinstance(model, LPNet | FlopsLine):
            return model
        if id(model) not in tables:
            tables[id(model)] = _tabulated(model, grid, problem)
        return tables[id(model)]

    return form(model)


def _knots(data: TrainingSet, problem: Problem) -> list[Floats]:
    """Widths of each group at which the tables are exact [G][...]."""
    return [
        np.unique([group.minimum, group.width, *lattice, *measured]).astype(np.float64)
        for group, lattice, measured in zip(
            data.space.groups, data.lattice, problem.widths.T, strict=True
        )
    ]


def _tabulated(model: LPNet | FlopsLine, grid: Grid, problem: Problem) -> Tables:
    # the model's own lower bound: a source's target may be many times as fast
    lowest = LOWEST_SHARE * float(np.exp(model.log_latency(problem.widths)).min())
    return grid.tabulate(model.overhead, lowest, model.layer_time)


def _sidecar(
    data: TrainingSet | VectorSet,
    measured: Architectures,
    evaluation: _Evaluation,
    seconds: float,
) -> Sidecar:
    served = evaluation.served
    ends = np.array([data.full_widths, data.lowest_widths])
    dense, lowest = np.exp(served.model.log_latency(ends)).tolist()
    return Sidecar(
        space_id=data.space_id,
        fingerprint=data.fingerprint,
        model=served.errors.name,
        measurements=len(measured.latency_ms),
        measurements_sha256=_sha256_of(data.measurement_ids),
        mape=served.errors.mape,
        repeat_difference=measured.repeat_difference,
        rivals=[entry.errors for entry in evaluation.compared],
        learning_curve=evaluation.curve,
        interval_level=LEVEL,
        interval_coverage=evaluation.coverage,
        groups=data.names,
        full_widths=data.full_widths,
        minimum_widths=data.minimum_widths,
        lattice=[list(widths) for widths in data.lattice],
        dense_ms=dense,
        lowest_ms=lowest,
        trained_seconds=seconds,
        versions=_versions(),
    )


def _sha256_of(measurement_ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(measurement_ids)).encode()).hexdigest()


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **packages}
