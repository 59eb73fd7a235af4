"""Channels last in training: chosen where it is faster and changes nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning_client.data.batch import Batch
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe
from pruning_client.training.memory_format import channels_last_is_faster, in_format

BATCH = Batch((torch.rand(16, 3, 8, 8),), torch.arange(16) % 4)
#: Enough for a trial when a step takes a second.
MANY = 1000


class Net(nn.Module):
    """Convolutions, one of which tells what format it computes in."""

    def __init__(self, clock: Clock | None = None, speed: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)
        self._clock = clock
        self._speed = speed

    def __deepcopy__(self, memo: dict[int, Any]) -> Net:
        twin = type(self)(self._clock, self._speed)
        twin.load_state_dict(self.state_dict())
        return twin

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).relu())
        if self._clock is not None:
            is_last = y.is_contiguous(memory_format=torch.channels_last)
            self._clock.now += 1 / self._speed if is_last else 1.0
        return self.head(y)

    def head(self, y: Tensor) -> Tensor:
        return self.fc(y.mean((2, 3)))


class Flattening(Net):
    """Reads features by their place in memory."""

    def head(self, y: Tensor) -> Tensor:
        return self.fc(y.view(len(y), -1)[:, :8])


class Dense(Net):
    """Answers for every pixel."""

    def head(self, y: Tensor) -> Tensor:
        return y[:, :4] + 0.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def chosen(
    kind: Callable[..., Net] = Net,
    *,
    speed: float = 2.0,
    samples: int = MANY,
    recipe: Recipe | None = None,
    batch: Batch = BATCH,
) -> bool:
    clock = Clock()
    training = Training(recipe=recipe or Recipe())
    return channels_last_is_faster(
        kind(clock, speed), batch, training, samples=samples, clock=clock
    )


def test_it_is_chosen_where_steps_are_faster() -> None:
    assert chosen()
    assert not chosen(speed=1.05)
    assert not chosen(speed=0.5)


def test_short_training_is_worth_no_trial() -> None:
    assert not chosen(samples=100)


def test_a_network_that_needs_the_usual_format_keeps_it() -> None:
    assert not chosen(Flattening)


def test_outputs_that_a_loss_may_read_by_their_place_keep_it() -> None:
    pixels = Batch(BATCH.inputs, torch.zeros(16, 8, 8, dtype=torch.long))
    assert not chosen(Dense, batch=pixels)


def test_a_loss_that_fails_and_a_loop_of_ones_own_keep_it() -> None:
    def loss(outputs: Tensor, _target: Tensor) -> Tensor:
        raise RuntimeError

    assert not chosen(recipe=Recipe(loss=loss))
    assert not chosen(recipe=Recipe(finetune=lambda *_: None))


def test_networks_without_images_have_no_choice() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    assert not channels_last_is_faster(model, BATCH, Training(), samples=10**9)
    assert not channels_last_is_faster(
        in_format(Net(), torch.channels_last), BATCH, Training(), samples=10**9
    )


def test_the_network_and_the_random_numbers_stay_as_they_are() -> None:
    clock = Clock()
    model = Net(clock, 2.0)
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    assert channels_last_is_faster(model, BATCH, Training(), samples=MANY, clock=clock)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.first.weight.is_contiguous()
    assert model.first.weight.grad is None
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_the_format_can_be_taken_back() -> None:
    model = Net()
    expected = model(BATCH.inputs[0])
    assert not in_format(model, torch.channels_last).second.weight.is_contiguous()
    torch.testing.assert_close(model(BATCH.inputs[0]), expected)
    assert in_format(model, torch.contiguous_format).second.weight.is_contiguous()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
