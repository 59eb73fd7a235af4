from __future__ import annotations

import math

import pytest
import torch

from pruning_client.training import schedules
from pruning_client.training.hooks import Recipe
from pruning_client.training.schedules import Schedule


def by_hand(name: str, lr: float, done: int, total: int) -> float:
    """The rate as a formula of its own, as the trainer once set it at every step."""
    warm = max(1, total // 20)
    level = lr * min(1.0, (done + 1) / warm)
    if name == "constant":
        return level
    past = max(0, done - warm) / max(1, total - warm)
    return level * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * past)))


@pytest.mark.parametrize("total", [1, 7, 100, 1003])
@pytest.mark.parametrize("name", ["constant", "cosine"])
@pytest.mark.parametrize("lr", [0.01, 0.3])
def test_rates_are_those_of_the_formula(name: str, lr: float, total: int) -> None:
    schedule: Schedule = getattr(schedules, name)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = schedules.scheduler(Recipe(), schedule, optimiser, total)
    rates = []
    for _ in range(total):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert rates == [by_hand(name, lr, done, total) for done in range(total)]


def test_the_cosine_warms_up_and_falls_to_a_hundredth() -> None:
    rates = [schedules.cosine(step, 100) for step in range(100)]
    assert rates[0] < rates[4]
    assert max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=0.01)


def test_an_own_optimiser_keeps_its_rate() -> None:
    recipe = Recipe(optimiser=lambda model: torch.optim.SGD(model.parameters(), lr=0.7))
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.7)
    scheduler = schedules.scheduler(recipe, schedules.cosine, optimiser, 40)
    for _ in range(40):
        assert optimiser.param_groups[0]["lr"] == 0.7
        optimiser.step()
        scheduler.step()
