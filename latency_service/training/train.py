"""From measurements to a predictor: every model is fitted and compared, the best differentiable one is served."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits

from latency_service.predictors.schemas import ModelErrors, Sidecar
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.evaluation import FOLDS, errors, fold_of
from latency_service.training.export import export
from latency_service.training.features import LOWEST_SHARE, Encoding, build_encoding
from latency_service.training.intervals import LEVEL, coverage, half_width
from latency_service.training.lpnet import fit_lpnets
from latency_service.training.mlp import fit_mlps
from latency_service.training.rivals import (
    fit_boosting,
    fit_flops_line,
    fit_gaussian_process,
    fit_kernel_ridge,
)

Floats = npt.NDArray[np.float64]
Widths = npt.NDArray[np.int64]
Progress = Callable[[str, float], None]

#: Fewest different architectures that can be cross-validated at all.
LEAST_ARCHITECTURES = 10
#: Networks in the ensemble of LPNet.
MEMBERS = 3
#: Noise that every measurement is taken to have, relative, beside what its own interval says.
COMMON_NOISE = 0.005


class TrainingError(ValueError):
    """No predictor can be trained on these measurements; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """The measurements of one search space on one target. Widths occurring more than once are repeats."""

    space: SearchSpace
    #: of the target
    fingerprint: str
    #: [N]
    measurement_ids: list[str]
    #: [N, G]
    widths: npt.NDArray[np.integer]
    #: [N]
    latency_ms: Floats
    #: half-width of the 95 % interval, relative [N]
    half_width: Floats
    #: for each group the widths worth using, ascending [G][...]
    lattice: list[list[int]]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A predictor that is complete."""

    #: the ONNX file
    artifact: bytes
    sidecar: Sidecar


class Model(Protocol):
    """What every fitted model can do."""

    def log_latency(self, widths: npt.NDArray[np.integer]) -> Floats:
        """Logarithm of the latency in ms [N] of `widths` [N, G]."""
        ...


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """A kind of model, its held-out predictions [N] (log of ms), and it fitted to everything."""

    held_out: Floats
    errors: ModelErrors
    model: Model


@dataclass(frozen=True, kw_only=True)
class _Architectures:
    """The measurements with repeats merged."""

    widths: Widths
    latency_ms: Floats
    #: mean 1 [N]
    weights: Floats
    repeat_difference: float | None


def train(data: TrainingSet, *, progress: Progress | None = None) -> Trained:
    """Fit, compare, choose, calibrate and export; deterministic given `data`.

    Args:
        progress: told the phase and the share of all work that is done, often.

    Raises:
        TrainingError: too few architectures, latencies that are not positive, or widths that change nothing.
        SpaceError: the measurements' widths do not fit the space.
    """
    began = time.monotonic()
    _check(data)
    merged = _merge(data)
    _check_spread(merged)
    report = progress or (lambda phase, share: None)
    report("encoding the layers", 0.0)
    encoding = build_encoding(data.space, data.lattice, merged.widths)
    folds = fold_of(merged.latency_ms, data.seed)
    with _one_thread():
        compared = _compare(data, merged, encoding, folds, report)
    served = min((entry for entry in compared if entry.errors.differentiable), key=lambda entry: entry.errors.mape)
    report("exporting", 0.98)
    residuals = np.log(merged.latency_ms) - served.held_out
    artifact = export(served.model, groups=len(data.space.groups), half_width=half_width(residuals))
    sidecar = _sidecar(data, merged, served, [entry.errors for entry in compared], coverage(residuals, folds), began)
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


def _check(data: TrainingSet) -> None:
    count = len(data.latency_ms)
    if data.widths.shape != (count, len(data.space.groups)) or len(data.measurement_ids) != count:
        raise TrainingError(f"{count} latencies, {len(data.measurement_ids)} ids, widths of shape {data.widths.shape}")
    for widths in data.widths.tolist():
        data.space.check_widths(widths)
    if not np.all(np.isfinite(data.latency_ms)) or np.any(data.latency_ms <= 0):
        worst = int(np.argmin(np.where(np.isfinite(data.latency_ms), data.latency_ms, -np.inf)))
        raise TrainingError(
            f"measurement {data.measurement_ids[worst]} says {data.latency_ms[worst]} ms: leave it out and train again"
        )
    different = len({tuple(widths) for widths in data.widths.tolist()})
    if different < LEAST_ARCHITECTURES:
        raise TrainingError(
            f"{different} different architectures have been measured, training takes at least {LEAST_ARCHITECTURES} "
            f"(100 make a good predictor): measure more with `latency-service campaigns create`"
        )


def _check_spread(merged: _Architectures) -> None:
    lowest, highest = float(merged.latency_ms.min()), float(merged.latency_ms.max())
    if highest < lowest * 1.005:
        raise TrainingError(
            f"all {len(merged.latency_ms)} architectures took {lowest:.3g} ms: the widths that were sampled do not "
            "change the latency, so there is nothing to predict; check the minimum widths of the space's groups"
        )


def _merge(data: TrainingSet) -> _Architectures:
    """Average repeats in log latency; their median relative difference is the repeatability floor."""
    widths, index = np.unique(data.widths.astype(np.int64), axis=0, return_inverse=True)
    index = index.reshape(-1)
    logs = np.log(data.latency_ms)
    counts = np.bincount(index)
    deviation = np.where(np.isfinite(data.half_width), data.half_width, np.nanmax(data.half_width)) / 1.96
    variance = np.bincount(index, weights=deviation**2) / counts**2
    precision = 1 / (COMMON_NOISE**2 + variance)
    differences = [
        100 * abs(float(np.expm1(logs[i] - logs[j])))
        for where in (np.flatnonzero(index == k) for k in np.flatnonzero(counts > 1))
        for position, i in enumerate(where)
        for j in where[:position]
    ]
    return _Architectures(
        widths=widths,
        latency_ms=np.exp(np.bincount(index, weights=logs) / counts),
        weights=precision / precision.mean(),
        repeat_difference=float(np.median(differences)) if differences else None,
    )


def _compare(
    data: TrainingSet, merged: _Architectures, encoding: Encoding, folds: npt.NDArray[np.int64], report: Progress
) -> list[_Compared]:
    """Every kind of model, cross-validated on the same folds."""
    full = np.array(data.space.full_widths, dtype=np.float64)
    floor = LOWEST_SHARE * np.array([group.minimum for group in data.space.groups], dtype=np.float64)
    widths, latency = merged.widths, merged.latency_ms
    # one row for each fold, which it does not see, and one that sees everything
    weights = np.stack([np.where(folds == fold, 0.0, merged.weights) for fold in [*range(FOLDS), -1]])

    def told(name: str, start: float, end: float) -> Callable[[float], None]:
        return lambda share: report(f"training {name}", start + share * (end - start))

    def each(name: str, start: float, end: float, fit: Callable[[Floats], Model]) -> list[Model]:
        fitted: list[Model] = []
        for row in weights:
            told(name, start, end)(len(fitted) / len(weights))
            fitted.append(fit(row))
        return fitted

    fitted: dict[str, tuple[list[Model], bool]] = {
        "lpnet": (
            [*fit_lpnets(encoding, widths, latency, weights, members=MEMBERS, seed=data.seed,
                         progress=told("lpnet", 0.02, 0.6))],
            True,
        ),
        "lpnet-mlp": (
            [*fit_mlps(full, widths, latency, weights, seed=data.seed, progress=told("lpnet-mlp", 0.6, 0.75))],
            True,
        ),
        "flops-line": (
            each("flops-line", 0.75, 0.76, lambda row: fit_flops_line(encoding, widths, latency, row)), True,
        ),
        "kernel-ridge": (
            each("kernel-ridge", 0.76, 0.82, lambda row: fit_kernel_ridge(full, floor, widths, latency, row)), True,
        ),
        "gaussian-process": (
            each("gaussian-process", 0.82, 0.93, lambda row: fit_gaussian_process(full, floor, widths, latency, row)),
            True,
        ),
        "gradient-boosting": (
            each("gradient-boosting", 0.93, 0.98, lambda row: fit_boosting(widths, latency, row, data.seed)), False,
        ),
    }  # fmt: skip
    return [
        _judge(name, models, merged, folds, differentiable=differentiable)
        for name, (models, differentiable) in fitted.items()
    ]


def _judge(
    name: str, models: list[Model], merged: _Architectures, folds: npt.NDArray[np.int64], *, differentiable: bool
) -> _Compared:
    held_out = np.empty(len(folds))
    for fold, model in enumerate(models[:-1]):
        held_out[folds == fold] = model.log_latency(merged.widths[folds == fold])
    found = errors(name, held_out, merged.latency_ms, differentiable=differentiable)
    return _Compared(held_out=held_out, errors=found, model=models[-1])


def _sidecar(
    data: TrainingSet,
    merged: _Architectures,
    served: _Compared,
    rivals: list[ModelErrors],
    covered: float,
    began: float,
) -> Sidecar:
    lowest = np.array([[widths[0] for widths in data.lattice]])
    dense = np.array([data.space.full_widths])
    return Sidecar(
        space_id=data.space.id,
        fingerprint=data.fingerprint,
        model=served.errors.name,
        measurements=len(merged.latency_ms),
        measurements_sha256=hashlib.sha256("\n".join(sorted(data.measurement_ids)).encode()).hexdigest(),
        mape=served.errors.mape,
        repeat_difference=merged.repeat_difference,
        rivals=rivals,
        interval_level=LEVEL,
        interval_coverage=covered,
        groups=[group.name for group in data.space.groups],
        full_widths=data.space.full_widths,
        minimum_widths=[group.minimum for group in data.space.groups],
        lattice=[list(widths) for widths in data.lattice],
        dense_ms=float(np.exp(served.model.log_latency(dense)[0])),
        lowest_ms=float(np.exp(served.model.log_latency(lowest)[0])),
        trained_seconds=time.monotonic() - began,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "onnx", "scikit-learn", "numpy", "latency-service")},
        },
    )
