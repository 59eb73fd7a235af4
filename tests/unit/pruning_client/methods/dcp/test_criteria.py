"""Both criteria find what channels are worth, on a small network with weights that stand still."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from pruning_client.data.batches import Batches
from pruning_client.data.sources import as_batches
from pruning_client.graph.space import make_space
from pruning_client.methods.dcp.criteria import (
    ConditionalAccuracy,
    Criterion,
    PairedDifference,
    criterion_of,
    memory_of,
)
from pruning_client.methods.gates import Gates
from pruning_client.training.metrics import accuracy
from tests.support.planted_channels import CHANNELS, DEAD, VITAL, Planted, planted_data

DROP = 0.1


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return Planted().eval()


@pytest.fixture(scope="module")
def data(model: nn.Module) -> Batches:
    return as_batches(planted_data(model), batch_size=64)


@pytest.fixture(scope="module")
def gates(model: nn.Module) -> Gates:
    return Gates(model, make_space(model, torch.zeros(2, CHANNELS, 4, 4), minimum=1))


@pytest.fixture(scope="module")
def ablation(model: nn.Module, gates: Gates, data: Batches) -> np.ndarray:
    """Accuracy that is lost when each channel alone is switched off, of all images."""
    found = []
    with gates.attached():
        for channel in [None, *range(CHANNELS)]:
            on = torch.ones(CHANNELS)
            on[[] if channel is None else [channel]] = 0
            gates.set([on])
            found.append(accuracy(model, data))
    lost = found[0] - np.array(found[1:])
    assert (lost.argmin(), lost[DEAD], lost.argmax()) == (DEAD, 0, VITAL)
    return lost


@pytest.fixture(scope="module")
def estimated(model: nn.Module, gates: Gates, data: Batches) -> Any:
    """Scores after a number of passes of whole batches."""

    def run(criterion: Criterion, steps: int, passes: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(3)
        batches = [batch for seed in range(steps) for batch in data.shuffled(seed)][:steps]
        with gates.attached(), torch.inference_mode():
            for batch in batches:
                on = torch.rand(passes, CHANNELS, generator=generator) >= DROP
                seen = []
                for draw in on:
                    gates.set([draw.float()])
                    hits = model(*batch.inputs).argmax(1) == batch.target
                    seen.append(float(hits.float().mean()))
                criterion.add(on, seen)
        return criterion.scores().numpy()

    return run


def test_criterion_1_ranks_as_exact_ablation(ablation: np.ndarray, estimated: Any) -> None:
    scores = estimated(ConditionalAccuracy(CHANNELS, DROP, memory=1e6), 800, 1)
    assert spearmanr(scores, ablation).statistic >= 0.8


def test_criterion_2_ranks_as_exact_ablation(ablation: np.ndarray, estimated: Any) -> None:
    scores = estimated(PairedDifference(CHANNELS, DROP, memory=1e6), 250, 2)
    assert spearmanr(scores, ablation).statistic >= 0.8


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.usefixtures("ablation")
def test_a_dead_channel_is_last_and_a_vital_one_first(number: Any, estimated: Any) -> None:
    scores = estimated(criterion_of(number, CHANNELS, DROP, 1e6, 4), 400, 4)
    assert int(scores.argmin()) == DEAD
    assert int(scores.argmax()) == VITAL


def test_criterion_1_is_the_formula_of_its_means() -> None:
    """E is the mean of .2, .6 and .7; the second channel was on for the last two."""
    found = ConditionalAccuracy(2, 0.25, memory=1e9)
    on = torch.tensor([[True, False], [True, True], [True, True]])
    found.add(on, [0.2, 0.6, 0.7])
    assert found.scores().tolist() == pytest.approx([0.0, (0.65 - 0.5) * 3], abs=1e-6)


def test_criterion_2_is_the_mean_product_of_differences() -> None:
    """Only the first channel differs between the passes, and .3 of the accuracy with it."""
    found = PairedDifference(2, 0.5, memory=1e9)
    found.add(torch.tensor([[False, True], [True, True]]), [0.4, 0.7])
    assert found.scores().tolist() == pytest.approx([0.3 / 0.5, 0.0])


def test_the_memory_forgets() -> None:
    found = ConditionalAccuracy(1, 0.05, memory=4)
    for value in [0.0] * 50 + [1.0] * 50:
        found.add(torch.tensor([[True]]), [value])
    assert float(found._all[0] / found._all[1]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("steps", "expected"), [(62_500, (3333, 3000)), (168, (42, 42))])
def test_the_memory_follows_short_runs(steps: int, expected: tuple[float, float]) -> None:
    assert (memory_of(1, steps), memory_of(2, steps)) == pytest.approx(expected, rel=1e-3)
