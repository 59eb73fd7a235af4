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
import torch
from threadpoolctl import threadpool_limits

from latency_service.core.arrays import Floats, Ints
from latency_service.predictors.schemas import LearningPoint, ModelErrors, Sidecar
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

#: Below this share of a group's minimum width nothing is told apart.
FLOOR_SHARE = 0.5
#: Standard errors by which another kind of model has to err less than the transferred one. Of
#: several kinds one is often better by two by chance: of 120 draws of ten measurements 1.5 let in
#: three, two of which erred much more.
SURE = 3.0
#: Shares of the measurements that the learning curve is drawn at, beside all of them.
CURVE_SHARES = (0.25, 0.5, 0.75)
PACKAGES = ("torch", "onnx", "scikit-learn", "numpy", "latency-service")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A predictor that is complete."""

    #: the ONNX file
    artifact: bytes
    sidecar: Sidecar


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """A kind of model: its held-out predictions [N] (log of ms), their errors, and it fitted to
    everything.
    """

    candidate: CandidateModel
    held_out: Floats
    errors: ModelErrors
    model: Model
    #: of the model's own errors to those held out
    gain: float


def train(
    data: TrainingSet | VectorSet,
    *,
    sources: Sequence[LPNet] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Fit, compare, choose, calibrate and export; deterministic given `data`.

    Args:
        sources: of other targets, where they have been fitted before; otherwise they are fitted to
            `data.known`.
        progress: told the phase and the share of all work that is done, often.

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
    with _one_thread():
        if sources is None:
            sources = _sources(
                data, lambda share: report("learning from other targets", 0.1 * share)
            )
        problem = _problem(data, measured, folds, sources)
        compared = _compare(problem, folds, report)
        served = _served(compared, measured.latency_ms)
        curve = _learning_curve(
            served, problem, lambda share: report("learning curve", 0.9 + 0.08 * share)
        )
        report("exporting", 0.98)
        residuals = served.gain * (np.log(measured.latency_ms) - served.held_out)
        artifact = export(
            _served_form(served.model, problem, data),
            groups=len(data.names),
            half_width=half_width(residuals),
        )
    sidecar = _sidecar(data, measured, served, compared, curve, coverage(residuals, folds), began)
    report("done", 1.0)
    return Trained(artifact=artifact, sidecar=sidecar)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch and scikit-learn: the matrices are small, and on a busy machine (the
    agent measures beside us) threads that wait for each other made training ten times slower.
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


def _sources(data: TrainingSet | VectorSet, told: Callable[[float], None]) -> list[LPNet]:
    structure = _structure(data)
    return [] if structure is None else fit_sources(structure, data.known, data.seed, told)


def _problem(
    data: TrainingSet | VectorSet,
    measured: Architectures,
    folds: Ints,
    sources: Sequence[LPNet],
) -> Problem:
    """One fit for each fold, which it does not see, and one that sees everything."""
    full = np.array(data.full_widths, dtype=np.float64)
    return Problem(
        structure=_structure(data),
        full=np.where(full > 0, full, 1.0),
        floor=FLOOR_SHARE * np.array(data.minimum_widths),
        widths=measured.widths,
        latency_ms=measured.latency_ms,
        weights=np.stack(
            [
                np.where(folds == fold, 0.0, measured.weights)
                for fold in [*range(folds.max() + 1), -1]
            ]
        ),
        sources=sources,
        seed=data.seed,
    )


def _compare(problem: Problem, folds: Ints, report: Progress) -> list[_Compared]:
    """Every kind of model, cross-validated on the same folds."""
    compared: list[_Compared] = []
    fitted = candidate_models(problem)
    done = 0.0
    whole = sum(candidate.share for candidate in fitted)
    for candidate in fitted:
        phase = f"training {candidate.name}"

        def told(
            share: float, phase: str = phase, done: float = done, part: float = candidate.share
        ) -> None:
            report(phase, 0.1 + 0.8 * (done + share * part) / whole)

        models = candidate.fit(problem, told)
        done += candidate.share
        held_out = _held_out(models, problem, folds)
        found = errors(
            candidate.name, held_out, problem.latency_ms, differentiable=candidate.differentiable
        )
        gained = _gain(models, folds)
        compared.append(
            _Compared(
                candidate=candidate, held_out=held_out, errors=found, model=models[-1], gain=gained
            )
        )
    return compared


def _served(compared: Sequence[_Compared], latency_ms: Floats) -> _Compared:
    """The differentiable kind that errs least. The transferred one where the other is not surely
    better: of the errors of ten measurements another kind's may be the least by chance, though it
    ranks nothing right.
    """
    best = min(
        (entry for entry in compared if entry.errors.differentiable),
        key=lambda entry: entry.errors.mape,
    )
    for entry in compared:
        if entry.candidate is TRANSFERRED and entry is not best:
            off, least = (
                np.abs(np.expm1(one.held_out - np.log(latency_ms))) for one in (entry, best)
            )
            gained = off - least
            if gained.mean() < SURE * gained.std(ddof=1) / np.sqrt(len(gained)):
                return entry
    return best


def _learning_curve(
    served: _Compared, problem: Problem, told: Callable[[float], None]
) -> list[LearningPoint]:
    """Errors of the served kind of model trained on part of the measurements, on the other part;
    then on all folds.
    """
    count = len(problem.latency_ms)
    order = np.random.default_rng(problem.seed).permutation(count)
    sizes = [
        size for share in CURVE_SHARES if (size := round(share * count)) >= LEAST_ARCHITECTURES
    ]
    points = []
    for number, size in enumerate(sizes):
        seen = np.sort(order[:size])
        rest = order[size:]
        part = replace(
            problem,
            widths=problem.widths[seen],
            latency_ms=problem.latency_ms[seen],
            weights=problem.weights[-1:, seen],
        )
        (model,) = served.candidate.fit(part, lambda share: None)
        told((number + 1) / len(sizes))
        off = np.expm1(model.log_latency(problem.widths[rest]) - np.log(problem.latency_ms[rest]))
        points.append(LearningPoint(measurements=size, mape=100 * float(np.abs(off).mean())))
    return [*points, LearningPoint(measurements=count, mape=served.errors.mape)]


def _held_out(models: Sequence[Model], problem: Problem, folds: Ints) -> Floats:
    """Log latency [N] of each architecture by the model that did not see it."""
    predicted = np.empty(len(folds))
    for fold in np.unique(folds):
        predicted[folds == fold] = models[fold].log_latency(problem.widths[folds == fold])
    return predicted


def _gain(models: Sequence[Model], folds: Ints) -> float:
    """What the last fifth of the measurements is expected to have gained, of a model that says."""
    nets = [model for model in models if isinstance(model, LPNet)]
    if len(nets) < len(models):
        return 1.0
    expected = np.stack([net.unseen_deviation for net in nets])
    return gain(expected[-1], expected[folds, np.arange(len(folds))])


def _served_form(model: Model, problem: Problem, data: TrainingSet | VectorSet) -> object:
    """Models that sum over a graph's layers are served as tables, exact at the lattice and at every
    width measured.
    """
    if isinstance(data, VectorSet):
        return model
    knots = [
        np.unique([group.minimum, group.width, *data.lattice[g], *problem.widths[:, g]]).astype(
            np.float64
        )
        for g, group in enumerate(data.space.groups)
    ]
    grid = Grid(problem.layers, knots, problem.floor)
    tables = dict[int, Tables]()

    def form(model: Any) -> object:
        if isinstance(model, Blend | Bottleneck):
            return replace(model, models=[form(inner) for inner in model.models])
        if not isinstance(model, LPNet | FlopsLine):
            return model
        if id(model) not in tables:
            # its own: what was learned of another target may be many times as fast
            lowest = LOWEST_SHARE * float(np.exp(model.log_latency(problem.widths)).min())
            tables[id(model)] = grid.tabulate(model.overhead, lowest, model.layer_time)
        return tables[id(model)]

    return form(model)


def _sidecar(
    data: TrainingSet | VectorSet,
    measured: Architectures,
    served: _Compared,
    compared: list[_Compared],
    curve: list[LearningPoint],
    covered: float,
    began: float,
) -> Sidecar:
    ends = np.array([data.full_widths, data.lowest_widths])
    dense, lowest = np.exp(served.model.log_latency(ends)).tolist()
    return Sidecar(
        space_id=data.space_id,
        fingerprint=data.fingerprint,
        model=served.errors.name,
        measurements=len(measured.latency_ms),
        measurements_sha256=hashlib.sha256(
            "\n".join(sorted(data.measurement_ids)).encode()
        ).hexdigest(),
        mape=served.errors.mape,
        repeat_difference=measured.repeat_difference,
        rivals=[entry.errors for entry in compared],
        learning_curve=curve,
        interval_level=LEVEL,
        interval_coverage=covered,
        groups=data.names,
        full_widths=data.full_widths,
        minimum_widths=data.minimum_widths,
        lattice=[list(widths) for widths in data.lattice],
        dense_ms=dense,
        lowest_ms=lowest,
        trained_seconds=time.monotonic() - began,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
    )
