from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pruning_client.errors import DataError, PruningError, UsageError
from pruning_client.methods.base import Context
from pruning_client.methods.scop.knockoffs import (
    gaussian_knockoffs,
    joined,
    make_knockoffs,
)
from pruning_client.methods.scop.method import SCOP
from tests.support.method_contexts import family_context


@pytest.fixture(scope="module")
def context() -> Context:
    return family_context("residual")


def with_inputs(context: Context, *inputs: torch.Tensor) -> Context:
    return replace(context, traced=replace(context.traced, example=inputs))


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gaussian_knockoffs_have_the_moments_of_the_batch() -> None:
    """And of several inputs together, whatever their shapes."""
    signal = torch.randn(50, 1, 3)
    inputs = (torch.cat([signal, 2 * signal], dim=1) + 5, signal.flatten(1) @ torch.ones(3, 4))
    draws = [gaussian_knockoffs(inputs, random(seed)) for seed in range(200)]
    real, made = (
        torch.cat([torch.cat([x.flatten(1) for x in one], 1) for one in batches])
        for batches in ([inputs], draws)
    )
    torch.testing.assert_close(made.mean(0), real.mean(0), atol=0.1, rtol=0.05)
    torch.testing.assert_close(torch.cov(made.T), torch.cov(real.T), atol=0.3, rtol=0.1)


def test_images_get_a_generator_and_other_inputs_the_gaussian(context: Context) -> None:
    _, history = make_knockoffs(context, "auto", 1)
    assert [entry["step"] for entry in history] == [1]
    for shape in ((2, 3, 8), (2, 3, 4, 8, 8), (2, 5)):
        made, history = make_knockoffs(with_inputs(context, torch.zeros(shape)), "auto", 1)
        assert (made, history) == (gaussian_knockoffs, [])
    several = with_inputs(context, torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8))
    assert make_knockoffs(several, "auto", 1)[0] is gaussian_knockoffs


def test_samples_are_drawn_at_random(context: Context) -> None:
    samples = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 16, 16)
    made, _ = make_knockoffs(context, samples, 1)
    (drawn,) = made((torch.zeros(40, 3, 16, 16),), random())
    assert drawn.shape == (40, 3, 16, 16)
    assert set(drawn[:, 0, 0, 0].tolist()) == set(range(6))


def test_knockoffs_follow_the_real_inputs() -> None:
    real = torch.zeros(3, 2)
    (both,) = joined((real,), torch.ones(3, 2, dtype=torch.float64))
    assert both.dtype == torch.float32
    assert both[:, 0].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("source", "inputs", "error", "message"),
    [
        ("auto", torch.zeros(2, 5, dtype=torch.int64), DataError, "whole numbers"),
        ("dcgan", torch.zeros(2, 3, 8), DataError, "DCGAN"),
        ("magic", torch.zeros(2, 3, 8, 8), UsageError, "no knockoffs 'magic'"),
        (torch.zeros(4, 3, 8, 9), torch.zeros(2, 3, 8, 8), UsageError, "shape"),
        (torch.zeros(0, 3, 8, 8), torch.zeros(2, 3, 8, 8), UsageError, "shape"),
    ],
)
def test_what_cannot_be_made_is_said_at_once(
    source: Any, inputs: torch.Tensor, error: type[PruningError], message: str, context: Context
) -> None:
    with pytest.raises(error, match=message):
        SCOP(knockoffs=source).check(with_inputs(context, inputs))


def test_a_function_that_returns_something_else() -> None:
    with pytest.raises(UsageError, match="do not fit"):
        joined((torch.zeros(3, 2),), torch.zeros(2, 2))
