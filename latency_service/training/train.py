"""From measurements to a predictor: every model is fitted and compared, the best differentiable one is served."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from latency_service.predictors.schemas import ModelErrors, Sidecar
from latency_service.spaces.layers import layers
from latency_service.training.candidates import CANDIDATES, Model, Problem
from latency_service.training.dataset import Architectures, TrainingError, TrainingSet, merge
from latency_service.training.evaluation import FOLDS, errors, fold_of
from latency_service.training.export import export
from latency_service.training.intervals import LEVEL, coverage, half_width
from latency_service.training.lpnet import LPNet
from latency_service.training.rivals import LOWEST_SHARE, FlopsLine
from latency_service.training.tables import tabulate

__all__ = ["Trained", "TrainingError", "TrainingSet", "train"]

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]

#: Below this share of a group's minimum width nothing is told apart.
FLOOR_SHARE = 0.5
PACKAGES = ("torch", "onnx", "scikit-learn", "numpy", "latency-service")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A predictor that is complete."""

    #: the ONNX file
    artifact: bytes
    sidecar: Sidecar


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """A kind of model: its held-out predictions [N] (log of ms), their errors, and it fitted to everything."""

    held_out: Floats
    errors: ModelErrors
    model: Model


def train(data: TrainingSet, *, progress: Progress | None = None) -> Trained:
    """Fit, compare, choose, calibrate and export; deterministic given `data`.

    Args:
        progress: told the phase and the share of all work that is done, often.

    Raises:
        TrainingError: too few architectures, latencies that are not positive, or widths that change nothing.
        SpaceError: the measurements' widths do not fit the space, or shape inference does not reach a layer.
    """
    began = time.monotonic()
    report = progress or (lambda phase, share: None)
    report("reading the layers", 0.0)
    measured = merge(data)
    folds = fold_of(measured.latency_ms, data.seed)
    problem = _problem(data, measured, folds)
    with _one_thread():
        compared = _compare(problem, folds, report)
        served = min((entry for entry in compared if entry.errors.differentiable), key=lambda entry: entry.errors.mape)
        report("exporting", 0.98)
        residuals = np.log(measured.latency_ms) - served.held_out
        artifact = export(
            _served_form(served.model, problem, data), groups=len(data.space.groups), half_width=half_width(residuals)
        )
    sidecar = _sidecar(data, measured, served, [entry.errors for entry in compared], coverage(residuals, folds), began)
    report("done", 1.0)
    return Trained(artifact=artifact, sidecar=sidecar)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch and scikit-learn: the matrices are small, and on a busy machine (the agent measures beside
    us) threads that wait for each other made training ten times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def _problem(data: TrainingSet, measured: Architectures, folds: npt.NDArray[np.int64]) -> Problem:
    """One fit for each fold, which it does not see, and one that sees everything."""
    return Problem(
        layers=layers(data.space),
        full=np.array(data.space.full_widths, dtype=np.float64),
        floor=FLOOR_SHARE * np.array([group.minimum for group in data.space.groups]),
        widths=measured.widths,
        latency_ms=measured.latency_ms,
        weights=np.stack([np.where(folds == fold, 0.0, measured.weights) for fold in [*range(FOLDS), -1]]),
        seed=data.seed,
    )


def _compare(problem: Problem, folds: npt.NDArray[np.int64], report: Progress) -> list[_Compared]:
    """Every kind of model, cross-validated on the same folds."""
    compared: list[_Compared] = []
    done = 0.0
    for candidate in CANDIDATES:
        phase = f"training {candidate.name}"

        def told(share: float, phase: str = phase, done: float = done, part: float = candidate.share) -> None:
            report(phase, 0.97 * (done + share * part))

        models = candidate.fit(problem, told)
        done += candidate.share
        held_out = _held_out(models, problem, folds)
        found = errors(candidate.name, held_out, problem.latency_ms, differentiable=candidate.differentiable)
        compared.append(_Compared(held_out=held_out, errors=found, model=models[-1]))
    return compared


def _held_out(models: Sequence[Model], problem: Problem, folds: npt.NDArray[np.int64]) -> Floats:
    """Log latency [N] of each architecture by the model that did not see it."""
    predicted = np.empty(len(folds))
    for fold in np.unique(folds):
        predicted[folds == fold] = models[fold].log_latency(problem.widths[folds == fold])
    return predicted


def _served_form(model: Model, problem: Problem, data: TrainingSet) -> object:
    """Models that sum over layers are served as tables, exact at the lattice and at every width measured."""
    if not isinstance(model, LPNet | FlopsLine):
        return model
    knots = [
        np.unique([group.minimum, group.width, *data.lattice[g], *problem.widths[:, g]]).astype(np.float64)
        for g, group in enumerate(data.space.groups)
    ]
    lowest = LOWEST_SHARE * float(problem.latency_ms.min())
    return tabulate(problem.layers, knots, problem.floor, model.overhead, lowest, model.layer_time)


def _sidecar(
    data: TrainingSet,
    measured: Architectures,
    served: _Compared,
    rivals: list[ModelErrors],
    covered: float,
    began: float,
) -> Sidecar:
    ends = np.array([data.space.full_widths, [widths[0] for widths in data.lattice]])
    dense, lowest = np.exp(served.model.log_latency(ends)).tolist()
    return Sidecar(
        space_id=data.space.id,
        fingerprint=data.fingerprint,
        model=served.errors.name,
        measurements=len(measured.latency_ms),
        measurements_sha256=hashlib.sha256("\n".join(sorted(data.measurement_ids)).encode()).hexdigest(),
        mape=served.errors.mape,
        repeat_difference=measured.repeat_difference,
        rivals=rivals,
        interval_level=LEVEL,
        interval_coverage=covered,
        groups=[group.name for group in data.space.groups],
        full_widths=data.space.full_widths,
        minimum_widths=[group.minimum for group in data.space.groups],
        lattice=[list(widths) for widths in data.lattice],
        dense_ms=dense,
        lowest_ms=lowest,
        trained_seconds=time.monotonic() - began,
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    )
