"""Sample sizes and draws: the bound holds as often as it has to, and estimates have no bias."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pruning_client.methods.pfp import sampling
from pruning_client.methods.pfp.choice import Mode, choose, probabilities
from pruning_client.methods.pfp.sensitivity import LayerSensitivity


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3000, 3, bias=False)


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.rand(8, 3000, generator=torch.Generator().manual_seed(1))


def parts(layer: nn.Linear, inputs: torch.Tensor, factors: np.ndarray) -> torch.Tensor:
    """Positive and negative part of each pre-activation, with inputs multiplied by factors."""
    scaled = inputs.double() * torch.as_tensor(factors)
    weight = layer.weight.detach().double()
    return torch.stack([scaled @ weight.clamp_min(0).T, scaled @ (-weight).clamp_min(0).T])


def test_the_bound_holds_as_often_as_it_says(layer: nn.Linear, inputs: torch.Tensor) -> None:
    """In 60 seeded trials with delta = 0.1 the relative error exceeds epsilon in at most 6."""
    found = LayerSensitivity(values=torch.zeros(3000), taps=1)
    found.add(layer, inputs)
    sensitivity = found.values.double().numpy()
    p = probabilities(sensitivity)
    epsilon, delta = 0.5, 0.1
    factor = sampling.complexity(float(sensitivity.sum()), found.patches, found.taps, delta)
    count = sampling.draws(epsilon, factor)
    width = int(np.ceil(sampling.expected_distinct(p, count)))
    assert width < 3000, "some channels are removed"
    wanted = parts(layer, inputs, np.ones(3000))
    broken = 0
    for seed in range(60):
        choice = choose(sensitivity, width, "random", np.random.default_rng(seed))
        factors = np.zeros(3000)
        factors[choice.order[:width]] = choice.factors[choice.order[:width]]
        error = (parts(layer, inputs, factors) - wanted).abs() / wanted
        broken += float(error.max()) > epsilon
    assert broken <= 60 * delta


def test_sizes_are_those_of_the_published_code() -> None:
    """2 * 3 ln(8 * 9 * 1 / .1) * 5 = 197.4, and 3 (6 + 1) 197.4 / .25 = 16,580 draws."""
    factor = sampling.complexity(5.0, 8, 1, 0.1)
    assert factor == pytest.approx(197.3775, rel=1e-5)
    assert sampling.draws(0.5, factor) == 16580
    assert sampling.images_needed(64, 688, 1e-16) == 149


def test_errors_are_as_large_as_the_number_of_draws_makes_them(
    layer: nn.Linear, inputs: torch.Tensor
) -> None:
    """The deviation over seeds is that of a sample of so many draws with replacement."""
    found = LayerSensitivity(values=torch.zeros(3000), taps=1)
    found.add(layer, inputs)
    sensitivity = found.values.double().numpy()
    p = probabilities(sensitivity)
    width = 1000
    count = sampling.draws_for(p, width)
    wanted = parts(layer, inputs, np.ones(3000))
    errors = []
    for seed in range(60):
        choice = choose(sensitivity, width, "random", np.random.default_rng(seed))
        factors = np.zeros(3000)
        factors[choice.order[:width]] = choice.factors[choice.order[:width]]
        errors.append(((parts(layer, inputs, factors) - wanted) / wanted).numpy())
    one = (inputs[0].double() * layer.weight[0].detach().double().clamp_min(0)).numpy()
    expected = np.sqrt((one**2 / p).sum() / count - one.sum() ** 2 / count) / one.sum()
    seen = np.asarray(errors)[:, 0, 0, 0]
    assert seen.std() == pytest.approx(expected, rel=0.35)
    assert abs(seen.mean()) < 4 * expected / np.sqrt(60)


@pytest.mark.parametrize("mode", ["random", "mixed"])
def test_estimates_have_no_bias(mode: Mode) -> None:
    """The mean over draws of a channel's factor, zero where it is not drawn, is near 1."""
    sensitivity = np.random.default_rng(0).uniform(0.1, 1, 200) ** 3
    total = np.zeros(200)
    for seed in range(2000):
        choice = choose(sensitivity, 120, mode, np.random.default_rng(seed))
        kept = choice.order[:120]
        total[kept] += choice.factors[kept]
    drawn = sensitivity * total / 2000
    assert float(drawn.sum()) == pytest.approx(float(sensitivity.sum()), rel=0.02)


def test_mixed_keeps_the_likely_channels_without_factors() -> None:
    sensitivity = np.array([1.0, 0.9, *[0.01] * 40])
    choice = choose(sensitivity, 12, "mixed", np.random.default_rng(3))
    assert {0, 1} <= set(choice.order[:12].tolist())
    np.testing.assert_array_equal(choice.factors[:2], 1.0)
    drawn = choice.order[:12][choice.order[:12] > 1]
    assert len(drawn) == 10
    assert bool((choice.factors[drawn] > 1).all()), "each stands for several that are removed"


@pytest.mark.parametrize("mode", ["deterministic", "random", "mixed"])
def test_whole_groups_have_no_factors(mode: Mode) -> None:
    choice = choose(np.arange(1.0, 9.0), 8, mode, np.random.default_rng(0))
    np.testing.assert_array_equal(choice.factors, 1.0)


def test_draws_and_epsilon_are_inverse() -> None:
    for count in (1, 40, 5000):
        assert sampling.draws(sampling.epsilon_of(count, 7.0) * (1 + 1e-9), 7.0) == count
    p = probabilities(np.random.default_rng(0).uniform(size=50))
    count = sampling.draws_for(p, 30)
    assert sampling.expected_distinct(p, count) >= 30 > sampling.expected_distinct(p, count - 1)
    assert sampling.draws_for(p, 50) == np.inf


def test_a_draw_is_that_of_repeated_choices() -> None:
    """Frequencies of two channels of three against all sequences that end with the second one."""
    p = np.array([0.5, 0.3, 0.2])
    pairs = [
        tuple(np.flatnonzero(sampling.draw(p, 2, np.random.default_rng(seed))))
        for seed in range(4000)
    ]
    for (a, b), expected in {
        (0, 1): 0.5 * 0.3 / 0.5 + 0.3 * 0.5 / 0.7,
        (0, 2): 0.5 * 0.2 / 0.5 + 0.2 * 0.5 / 0.8,
        (1, 2): 0.3 * 0.2 / 0.7 + 0.2 * 0.3 / 0.8,
    }.items():
        assert pairs.count((a, b)) / 4000 == pytest.approx(expected, abs=0.025)
