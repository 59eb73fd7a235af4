from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pruning_client.execution.journal import Journal
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context
from pruning_client.methods.scop.generator import (
    NOISE,
    Discriminator,
    Generator,
    moment_distance,
    train_generator,
)
from tests.support.method_contexts import digits_context
from tests.support.tiny_networks import TinyNet


@pytest.fixture
def context(trained: TinyNet, traced: Traced, predictor: Predictor) -> Context:
    return digits_context(trained, traced, predictor, 0.6)


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (5, 9), (28, 28), (32, 32), (70, 100)])
def test_images_of_any_size_within_their_range(size: tuple[int, int]) -> None:
    low = torch.tensor([-1.0, 0.0, 2.0])
    high = torch.tensor([1.0, 0.5, 3.0])
    made = Generator(size, low, high)(torch.randn(3, NOISE))
    assert made.shape == (3, 3, *size)
    assert bool((made.amin((0, 2, 3)) >= low).all())
    assert bool((made.amax((0, 2, 3)) <= high).all())
    assert Discriminator(3, size)(made).shape == (3,)


def test_training_brings_the_images_nearer_to_the_data(context: Context) -> None:
    """By means and covariances, far beyond the start; each pass is in the history."""
    generator, history = train_generator(context, 224)
    untrained, _ = train_generator(context, 0)
    real = torch.cat([batch.inputs[0] for batch in context.train.ordered()])
    noise = torch.randn(512, NOISE, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        trained = moment_distance(real, generator(noise))
        before = moment_distance(real, untrained(noise))
    assert trained < 0.6 * before
    assert history[-1]["distance"] < history[0]["distance"]
    assert history[-1]["step"] == 224


def test_the_same_seed_trains_the_same_generator(context: Context) -> None:
    torch.manual_seed(1)
    one, _ = train_generator(context, 5)
    torch.manual_seed(2)
    other, _ = train_generator(context, 5)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_stopped_training_is_continued_to_the_same_generator(
    context: Context, tmp_path: Path
) -> None:
    steps = 2 * len(context.train) + 5
    whole, history = train_generator(context, steps)

    class Stopped(Exception):
        pass

    def stop(event: Any) -> None:
        if event.done == len(context.train) + 3:
            raise Stopped

    with pytest.raises(Stopped):
        train_generator(replace(context, journal=Journal(tmp_path), progress=stop), steps)
    again = replace(context, journal=Journal(tmp_path, resume=True))
    resumed, its_history = train_generator(again, steps)
    assert its_history == history
    for name, value in resumed.state_dict().items():
        torch.testing.assert_close(value, whole.state_dict()[name], rtol=0, atol=0)
