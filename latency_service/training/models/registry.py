"""Every kind of model that is fitted for a predictor, in one form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from latency_service.core.arrays import Floats, Numbers
from latency_service.spaces.layers import Layer
from latency_service.training.models.baselines import (
    fit_boosting,
    fit_flops_line,
    fit_gaussian_process,
    fit_kernel_ridge,
)
from latency_service.training.models.block_features import BlockLayout, build_block_features, whole
from latency_service.training.models.kernels import fit_kernel_line
from latency_service.training.models.lpnet import LPNet, fit_lpnets
from latency_service.training.models.mixtures import Model
from latency_service.training.models.mlp import fit_mlps
from latency_service.training.models.transfer import MEMBERS, features_of, fit_transferred


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is to be fitted, once for each row of weights."""

    #: Layout of the layers, from the graph or from a vector's columns; None for a vector without
    #: one.
    structure: Sequence[Layer] | BlockLayout | None
    #: Widths of the dense network, and the narrowest that can be distinguished [G].
    full: Floats
    floor: Floats
    #: [N, G]
    widths: Numbers
    #: [N]
    latency_ms: Floats
    #: Weight of each measurement in each fit; 0 for held-out ones [K, N].
    weights: Floats
    #: Measurements on other targets of the same space.
    sources: Sequence[LPNet]
    seed: int

    @property
    def layers(self) -> Sequence[Layer]:
        assert not isinstance(self.structure, BlockLayout | None)
        return self.structure


Report = Callable[[float], None]


@dataclass(frozen=True, kw_only=True)
class CandidateModel:
    """A kind of model."""

    name: str
    #: has a gradient, so that it can be served
    differentiable: bool
    #: about how much of the whole training it takes
    share: float
    #: one model for each row of weights; tells the share that is done
    fit: Callable[[Problem, Report], Sequence[Model]]


def candidate_models(problem: Problem) -> list[CandidateModel]:
    """The kinds of model that fit what is known."""
    graph = not isinstance(problem.structure, BlockLayout | None)
    found = list(OF_GRAPHS if graph else OF_VECTORS)
    if problem.structure is None:
        found.remove(LPNET)
    return [*([TRANSFERRED] if problem.sources else []), *found]


def _lpnet(problem: Problem, report: Report) -> Sequence[Model]:
    structure = problem.structure
    widths = problem.widths
    assert structure is not None
    return fit_lpnets(
        features_of(structure, widths),
        widths,
        problem.latency_ms,
        problem.weights,
        members=MEMBERS,
        seed=problem.seed,
        progress=report,
    )


def _transferred(problem: Problem, report: Report) -> Sequence[Model]:
    return fit_transferred(
        problem.sources,
        problem.widths,
        problem.latency_ms,
        problem.weights,
        seed=problem.seed,
        progress=report,
    )


def _mlp(problem: Problem, report: Report) -> Sequence[Model]:
    return fit_mlps(
        problem.full,
        problem.widths,
        problem.latency_ms,
        problem.weights,
        seed=problem.seed,
        progress=report,
    )


def _one_by_one(
    fit: Callable[[Problem, Floats], Model],
) -> Callable[[Problem, Report], Sequence[Model]]:
    def fit_all(problem: Problem, report: Report) -> Sequence[Model]:
        fitted: list[Model] = []
        for row in problem.weights:
            fitted.append(fit(problem, row))
            report(len(fitted) / len(problem.weights))
        return fitted

    return fit_all


def _flops_line(problem: Problem, row: Floats) -> Model:
    return fit_flops_line(problem.layers, problem.widths, problem.latency_ms, row)


def _kernel_ridge(problem: Problem, row: Floats) -> Model:
    return fit_kernel_ridge(
        problem.full,
        problem.floor,
        problem.widths,
        problem.latency_ms,
        row,
        seed=problem.seed,
    )


def _gaussian_process(problem: Problem, row: Floats) -> Model:
    return fit_gaussian_process(
        problem.full, problem.floor, problem.widths, problem.latency_ms, row
    )


def _kernel_line(evidence: bool) -> Callable[[Problem, Floats], Model]:
    def fit(problem: Problem, row: Floats) -> Model:
        features = build_block_features(whole(problem.widths.shape[1]), problem.widths)
        return fit_kernel_line(
            features, problem.widths, problem.latency_ms, row, evidence=evidence, seed=problem.seed
        )

    return fit


def _boosting(problem: Problem, row: Floats) -> Model:
    return fit_boosting(problem.widths, problem.latency_ms, row, problem.seed)


TRANSFERRED = CandidateModel(
    name="lpnet-transfer", differentiable=True, share=0.5, fit=_transferred
)
LPNET = CandidateModel(name="lpnet", differentiable=True, share=0.5, fit=_lpnet)
MLP = CandidateModel(name="lpnet-mlp", differentiable=True, share=0.2, fit=_mlp)
BOOSTING = CandidateModel(
    name="gradient-boosting", differentiable=False, share=0.09, fit=_one_by_one(_boosting)
)
OF_GRAPHS = (
    LPNET,
    MLP,
    CandidateModel(
        name="flops-line", differentiable=True, share=0.01, fit=_one_by_one(_flops_line)
    ),
    CandidateModel(
        name="kernel-ridge", differentiable=True, share=0.02, fit=_one_by_one(_kernel_ridge)
    ),
    CandidateModel(
        name="gaussian-process", differentiable=True, share=0.1, fit=_one_by_one(_gaussian_process)
    ),
    BOOSTING,
)
OF_VECTORS = (
    LPNET,
    MLP,
    CandidateModel(
        name="kernel-ridge",
        differentiable=True,
        share=0.1,
        fit=_one_by_one(_kernel_line(evidence=False)),
    ),
    CandidateModel(
        name="gaussian-process",
        differentiable=True,
        share=0.1,
        fit=_one_by_one(_kernel_line(evidence=True)),
    ),
    BOOSTING,
)
