"""Where gates begin: the proposal whose answers stay nearest, and costs that agree with it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning_client.data.sources import as_batches
from pruning_client.graph.space import Traced, make_space
from pruning_client.latency.predictor import Predictor
from pruning_client.methods import allocation
from pruning_client.methods import initial_widths as initial_widths_module
from pruning_client.methods.base import Context, best_channels
from pruning_client.methods.initial_widths import OutputDistance, balanced, initial_widths
from pruning_client.methods.removal_costs import removal_costs
from tests.support.method_contexts import digits_context
from tests.support.tiny_networks import Regressor, TinyNet, digits

#: That training sees: twelve epochs of 28 batches.
IMAGES = 12 * 28 * 64
EVERYTHING = [np.arange(16), np.arange(16)]


@pytest.fixture
def context(trained: TinyNet, traced: Traced, predictor: Predictor) -> Context:
    return digits_context(trained, traced, predictor, 0.5)


def test_the_more_channels_are_closed_the_further_answers_go(context: Context) -> None:
    scores = [cost.double().numpy() for cost in removal_costs(context)]
    distance = OutputDistance(context)
    gone = [distance(best_channels(scores, [16, width])) for width in (16, 12, 8, 4)]
    assert gone == sorted(gone)
    assert gone[0] < 0.2 * gone[-1]


def test_a_dead_channel_does_not_move_answers(context: Context, traced: Traced) -> None:
    inner = next(p.group for p in traced.producers if p.module == "block.conv1")
    with torch.no_grad():
        context.model.block.bn1.weight[5] = context.model.block.bn1.bias[5] = 0.0
    distance = OutputDistance(context)
    without = list(EVERYTHING)
    without[inner] = np.delete(np.arange(16), 5)
    assert distance(without) == pytest.approx(distance(EVERYTHING), abs=1e-6)


def test_the_network_is_left_alone(context: Context) -> None:
    before = copy.deepcopy(context.model.state_dict())
    context.model.train()
    OutputDistance(context)([np.arange(4), np.arange(4)])
    assert context.model.training
    assert all(
        torch.equal(value, before[name]) for name, value in context.model.state_dict().items()
    )


def test_networks_without_classes_are_compared_too(predictor: Predictor) -> None:
    """By all of their answers; the second convolution's channel 3 reaches none."""
    model = Regressor().eval()
    made = Context(
        model=model,
        traced=make_space(model, torch.rand(2, 1, 8, 8)),
        train=as_batches(digits(), batch_size=64),
        predictor=predictor,
        target_ms=1.0,
    )
    second = next(p.group for p in made.traced.producers if p.module == "second")
    distance = OutputDistance(made)
    everything = [np.arange(8)] * len(made.traced.space.groups)

    def without(channel: int) -> float:
        return distance(
            [np.delete(k, channel) if g == second else k for g, k in enumerate(everything)]
        )

    assert distance(everything) == without(3) == 0
    assert without(0) > 1e-4


@pytest.mark.parametrize("nearest", sorted(allocation.ALLOCATORS))
def test_the_proposal_whose_answers_are_nearest_is_taken(
    nearest: str, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = [cost.double().numpy() for cost in removal_costs(context)]
    latency = context.predictor.latency_ms
    lattice = context.predictor.lattice
    found = {
        name: allocation.fit(
            propose(costs, latency, lattice, context.target_ms),
            costs,
            latency,
            lattice,
            context.target_ms,
        )
        for name, propose in allocation.ALLOCATORS.items()
    }

    class Asked:
        images = 256

        def __init__(self, _context: Context) -> None: ...

        def __call__(self, keep: Any) -> float:
            return float([len(kept) for kept in keep] != found[nearest])

    monkeypatch.setattr(initial_widths_module, "OutputDistance", Asked)
    assert initial_widths(context, costs, images=IMAGES) == found[nearest]


def test_the_network_is_asked_on_from_the_nearest_proposal(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wants the second group at full width whatever that costs, which no proposal gives it."""
    costs = [cost.double().numpy() for cost in removal_costs(context)]
    asked = list[int]()

    class Asked:
        images = 256

        def __init__(self, _context: Context) -> None: ...

        def __call__(self, keep: Any) -> float:
            asked.append(len(keep[1]))
            return -float(len(keep[1]))

    monkeypatch.setattr(initial_widths_module, "OutputDistance", Asked)
    widths = initial_widths(context, costs, images=IMAGES)
    assert max(asked[: len(allocation.ALLOCATORS)]) < 16
    assert widths[1] == 16
    assert context.predictor.one_ms(widths) <= context.target_ms
    assert len(asked) <= IMAGES / 2 / Asked.images


WIDE = [list(range(4, 65, 4)), list(range(8, 33, 4)), [16, 32, 48, 64]]
SLOPES = np.array([0.01, 0.02, 0.005])


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000),
    at=st.tuples(st.integers(2, 13), st.integers(2, 4), st.integers(0, 3)),
)
def test_balanced_a_millisecond_costs_the_same_in_every_group(
    seed: int, at: tuple[int, int, int]
) -> None:
    """Around the widths; only dearer at full width, only cheaper at the narrowest."""
    rng = np.random.default_rng(seed)
    widths = [choices[i] for choices, i in zip(WIDE, at, strict=True)]
    costs = [
        scale * rng.random(choices[-1]) + 0.01
        for choices, scale in zip(WIDE, (1, 9, 0.2), strict=True)
    ]
    found = balanced(costs, widths, SLOPES, WIDE)
    prices = [
        np.sort(cost)[::-1][choices[max(i - 2, 0)] : choices[min(i + 2, len(choices) - 1)]].mean()
        / slope
        for cost, choices, i, slope in zip(found, WIDE, at, SLOPES, strict=True)
    ]
    assert prices[0] == pytest.approx(prices[1])
    factors = [scaled / cost for scaled, cost in zip(found, costs, strict=True)]
    assert all(np.ptp(factor) == pytest.approx(0, abs=1e-9) for factor in factors)
    if at[2] in (1, 2):
        assert prices[2] == pytest.approx(prices[0])
    else:
        assert (
            (prices[2] >= prices[0] * (1 - 1e-9))
            if at[2] == 3
            else (prices[2] <= prices[0] * (1 + 1e-9))
        )
        assert (factors[2][0] >= 1) if at[2] == 3 else (factors[2][0] <= 1)


def test_costs_stay_where_the_latency_says_nothing() -> None:
    costs = [np.arange(1.0, 65.0), np.arange(1.0, 33.0), np.arange(1.0, 65.0)]
    for slopes in ([0.01, 0.0, -0.01], [0.0, 0.0, 0.0]):
        found = balanced(costs, [32, 16, 32], np.array(slopes), WIDE)
        assert all(np.array_equal(a, b) for a, b in zip(found, costs, strict=True))
