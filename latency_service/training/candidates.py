"""Every kind of model that is fitted for a predictor, in one form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from latency_service.spaces.layers import Layer
from latency_service.training.features import build_features
from latency_service.training.lpnet import fit_lpnets
from latency_service.training.mlp import fit_mlps
from latency_service.training.rivals import fit_boosting, fit_flops_line, fit_gaussian_process, fit_kernel_ridge

Floats = npt.NDArray[np.float64]

#: Networks in the ensemble of LPNet.
MEMBERS = 3


class Model(Protocol):
    """What every fitted model can do."""

    def log_latency(self, widths: npt.NDArray[np.integer]) -> Floats:
        """Logarithm of the latency in ms [N] of `widths` [N, G]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is to be fitted, once for each row of weights."""

    layers: Sequence[Layer]
    #: widths of the dense network, and those below which nothing is told apart [G]
    full: Floats
    floor: Floats
    #: [N, G]
    widths: npt.NDArray[np.int64]
    #: [N]
    latency_ms: Floats
    #: of each measurement in each fit, 0 unseen [K, N]
    weights: Floats
    seed: int


Told = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A kind of model."""

    name: str
    #: has a gradient, so that it can be served
    differentiable: bool
    #: about how much of the whole training it takes
    share: float
    #: one model for each row of weights; tells the share that is done
    fit: Callable[[Problem, Told], Sequence[Model]]


def _lpnet(problem: Problem, told: Told) -> Sequence[Model]:
    features = build_features(problem.layers, problem.widths)
    return fit_lpnets(
        features, problem.widths, problem.latency_ms, problem.weights,
        members=MEMBERS, seed=problem.seed, progress=told,
    )  # fmt: skip


def _mlp(problem: Problem, told: Told) -> Sequence[Model]:
    return fit_mlps(problem.full, problem.widths, problem.latency_ms, problem.weights, seed=problem.seed, progress=told)


def _one_by_one(fit: Callable[[Problem, Floats], Model]) -> Callable[[Problem, Told], Sequence[Model]]:
    def fit_all(problem: Problem, told: Told) -> Sequence[Model]:
        fitted: list[Model] = []
        for row in problem.weights:
            fitted.append(fit(problem, row))
            told(len(fitted) / len(problem.weights))
        return fitted

    return fit_all


def _flops_line(problem: Problem, row: Floats) -> Model:
    return fit_flops_line(problem.layers, problem.widths, problem.latency_ms, row)


def _kernel_ridge(problem: Problem, row: Floats) -> Model:
    return fit_kernel_ridge(problem.full, problem.floor, problem.widths, problem.latency_ms, row)


def _gaussian_process(problem: Problem, row: Floats) -> Model:
    return fit_gaussian_process(problem.full, problem.floor, problem.widths, problem.latency_ms, row)


def _boosting(problem: Problem, row: Floats) -> Model:
    return fit_boosting(problem.widths, problem.latency_ms, row, problem.seed)


CANDIDATES = (
    Candidate(name="lpnet", differentiable=True, share=0.5, fit=_lpnet),
    Candidate(name="lpnet-mlp", differentiable=True, share=0.2, fit=_mlp),
    Candidate(name="flops-line", differentiable=True, share=0.01, fit=_one_by_one(_flops_line)),
    Candidate(name="kernel-ridge", differentiable=True, share=0.1, fit=_one_by_one(_kernel_ridge)),
    Candidate(name="gaussian-process", differentiable=True, share=0.1, fit=_one_by_one(_gaussian_process)),
    Candidate(name="gradient-boosting", differentiable=False, share=0.09, fit=_one_by_one(_boosting)),
)
