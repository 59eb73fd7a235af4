"""ADMM: on a problem with a known solution, and on real digits."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning_client.data.sources import as_batches
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import silent
from pruning_client.methods.unification.admm import Admm, AdmmOptions
from pruning_client.methods.unification.compression import BlockProjection, unifiable
from pruning_client.methods.unification.method import WeightUnification, train_admm
from pruning_client.training.config import Training
from tests.support.tiny_networks import TinyNet, digits

CLOSE = AdmmOptions(rho=2.0, rho_growth=2.0, stages=3, updates=60)


def equal_pair(values: Sequence[Tensor]) -> list[Tensor]:
    """The nearest vector whose two numbers are equal."""
    return [value.mean().expand(2).clone() for value in values]


def descend(admm: Admm, weight: nn.Parameter, target: Tensor) -> list[float]:
    """Minimise the squared distance from a target; the residuals."""
    optimiser = torch.optim.SGD([weight], lr=0.2)
    residuals = []
    while admm.done < admm.steps:
        optimiser.zero_grad()
        (0.5 * (weight - target).square().sum() + admm.loss()).backward()
        optimiser.step()
        admm.step()
        residuals.append(admm.residual)
    return residuals


def test_the_constrained_minimum_is_found() -> None:
    """The nearest pair of equal numbers to (1, 5) is (3, 3)."""
    weight = nn.Parameter(torch.tensor([9.0, -9.0]))
    residuals = descend(
        Admm([weight], equal_pair, CLOSE, steps=300), weight, torch.tensor([1.0, 5.0])
    )
    torch.testing.assert_close(weight.detach(), torch.tensor([3.0, 3.0]), atol=0.01, rtol=0)
    assert residuals[-1] < 1e-3


def test_the_penalty_rises_in_stages_and_the_multiplier_stays() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 3.0]))
    options = AdmmOptions(rho=10.0, rho_growth=10.0, stages=3, updates=1)
    admm = Admm([weight], equal_pair, options, steps=9)
    admm._u[0] += torch.tensor([0.5, -0.5])
    seen = []
    for _ in range(8):
        admm.step()
        seen.append((round(admm.rho, 6), float(admm.rho * admm._u[0][0])))
    assert [rho for rho, _ in seen] == [0.1] * 2 + [1.0] * 3 + [10.0] * 3
    assert {round(multiplier, 6) for _, multiplier in seen} == {0.05}


@pytest.mark.parametrize("steps", [800, 3000])
def test_by_default_the_last_stage_brings_weights_to_what_is_admissible(steps: int) -> None:
    """SGD on the penalty alone, however many steps there are."""
    options = AdmmOptions()
    rho = options.penalty(steps, steps)
    weight = nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([weight], lr=options.lr, momentum=options.momentum)
    for _ in range(steps // options.stages):
        optimiser.zero_grad()
        (0.5 * rho * weight.square()).sum().backward()
        optimiser.step()
    assert float(weight.detach().abs()) < 0.01


def test_the_penalty_stays_in_the_range_where_sgd_is_stable() -> None:
    assert AdmmOptions(lr=0.1).penalty(4, 4) == pytest.approx(5.0)


def test_updates_are_spread_over_the_steps() -> None:
    calls = list[int]()

    def project(values: Sequence[Tensor]) -> list[Tensor]:
        calls.append(admm.done if calls else 0)
        return equal_pair(values)

    options = AdmmOptions(updates=5, momentum=0.5)
    admm = Admm([nn.Parameter(torch.ones(2))], project, options, steps=12)
    for _ in range(12):
        admm.step()
    assert calls == [0, 2, 4, 6, 8, 10, 12]


def test_momentum_has_time_to_act_between_updates() -> None:
    assert AdmmOptions(updates=100, momentum=0.9).interval(200) == 10


@pytest.fixture(scope="module")
def history(trained: TinyNet) -> list[dict[str, Any]]:
    """Of two epochs on digits, with blocks of a 3 x 3 kernel of which half become zero."""
    model = copy.deepcopy(trained)
    method = WeightUnification(block=(1, 9), zeros=0.5, epochs=2)
    weights = unifiable(model, method)
    data = as_batches(digits(), batch_size=64)
    projection = BlockProjection(weights, method)
    admm = Admm(list(weights.values()), projection, method, method.epochs * len(data))
    started = {"residual": admm.residual}
    found = train_admm(
        model,
        data,
        Training(precision="float32"),
        admm,
        method,
        progress=silent,
        evaluate=None,
        journal=Journal(),
    )
    return [started, *found]


def test_the_primal_residual_falls(history: list[dict[str, Any]]) -> None:
    residuals = [entry["residual"] for entry in history]
    assert sum(residuals[-3:]) < 0.5 * sum(residuals[:3])
    assert residuals[-1] < 0.4 * residuals[0]


def test_the_penalty_rises_while_the_network_learns(history: list[dict[str, Any]]) -> None:
    rho = [entry["rho"] for entry in history[1:]]
    assert rho == sorted(rho)
    assert len(set(rho)) == WeightUnification().stages
