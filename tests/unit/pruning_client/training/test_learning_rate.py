"""Learning rates from the network's own scale; an explicit one is obeyed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pruning_client.data.sources import as_batches
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import ProgressEvent
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe
from pruning_client.training.learning_rate import automatic_rate
from pruning_client.training.trainer import finetune
from tests.support.tiny_networks import TinyNet, digits, tiny_net

DATA = as_batches(digits(), batch_size=64)
AUTOMATIC = Training(epochs=1, lr=None)


class Bowl(nn.Module):
    """A weight whose squared distance from 1 is the loss, with a curvature."""

    def __init__(self, curvature: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(16) + 0.9)
        self.curvature = curvature

    def forward(self, x: Tensor) -> Tensor:
        return self.curvature * (self.weight - 1).square().mean() + 0 * x.mean()


def rate_of(curvature: float) -> float:
    training = Training(recipe=Recipe(loss=lambda outputs, _target: outputs))
    return automatic_rate(Bowl(curvature), DATA, training, momentum=0.9)


def test_the_steeper_the_loss_the_lower_the_rate() -> None:
    """In proportion, up to the factor of two between the steps that are tried."""
    steep, flat = rate_of(4e4), rate_of(1e4)
    assert 2 <= flat / steep <= 8


def test_the_network_is_left_alone() -> None:
    model = tiny_net()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    automatic_rate(model, DATA, Training(), momentum=0.9)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_training_at_the_rate_lowers_the_loss(trained: TinyNet) -> None:
    """Of a fresh network and of a trained one."""
    for model in (tiny_net(), copy.deepcopy(trained)):
        history = finetune(model, DATA, Training(epochs=3, lr=None))
        assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.parametrize("given", [None, 0.037])
def test_the_rate_is_shown(given: float | None) -> None:
    events: list[ProgressEvent] = []
    model = tiny_net()
    wanted = automatic_rate(model, DATA, Training(), momentum=0.9) if given is None else given
    history = finetune(model, DATA, Training(epochs=1, lr=given), progress=events.append)
    assert history[0]["lr"] == wanted
    assert events[0].figures["rate"] == f"{wanted:.2g}"


def test_an_optimiser_of_ones_own_has_its_own_rate() -> None:
    recipe = Recipe(optimiser=lambda model: torch.optim.SGD(model.parameters(), lr=0.5))
    history = finetune(tiny_net(), DATA, Training(epochs=1, recipe=recipe))
    assert "lr" not in history[0]


def test_a_training_that_is_continued_keeps_its_rate(tmp_path: Path) -> None:
    """Though its weights are others by then."""
    first = finetune(tiny_net(), DATA, AUTOMATIC, journal=Journal(tmp_path))
    other = tiny_net()
    with torch.no_grad():
        other.fc.weight *= 100
    again = finetune(other, DATA, AUTOMATIC, journal=Journal(tmp_path, resume=True))
    assert again[0]["lr"] == first[0]["lr"]


def test_a_trained_network_is_not_thrown_out_of_its_minimum() -> None:
    """Its gradient says nothing, and a long step would do as well as a short one."""
    assert rate_of(1e-3) == 0.01
