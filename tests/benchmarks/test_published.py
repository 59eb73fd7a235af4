"""Counts in the place of latency, and the rows beside published figures."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.cases import published
from benchmarks.support.counting import Counted, counting_predictor
from pruning_client.graph.space import Traced, make_space
from pruning_client.graph.surgery import slim
from pruning_client.methods.base import best_channels
from tests.support.networks import CifarResNet


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, Traced]:
    torch.manual_seed(0)
    model = CifarResNet().eval()
    return model, make_space(model, torch.randn(1, 3, 32, 32), name="resnet")


def values(model: nn.Module) -> int:
    return sum(tensor.numel() for tensor in model.state_dict().values() if tensor.dim())


def test_parameters_are_those_of_the_network_with_channels_removed(
    network: tuple[nn.Module, Traced],
) -> None:
    model, traced = network
    widths = [max(group.minimum, group.width * 5 // 8) for group in traced.space.groups]
    scores = [np.ones(group.width) for group in traced.space.groups]
    small = slim(copy.deepcopy(model), traced, best_channels(scores, widths))
    predictor = counting_predictor(traced.space, "parameters")
    assert predictor.one_ms(traced.space.full_widths) == 1.0
    assert predictor.one_ms(widths) == pytest.approx(values(small) / values(model), rel=1e-6)


@pytest.mark.parametrize("counted", ["multiply-accumulates", "parameters"])
def test_the_gradient_of_a_count_is_exact(
    network: tuple[nn.Module, Traced], counted: Counted
) -> None:
    space = network[1].space
    predictor = counting_predictor(space, counted)
    widths = [group.width // 2 for group in space.groups]
    gradient = predictor.evaluate([widths]).gradient[0]
    for step in (-2, 2):
        # a count is at most quadratic in one width: its slope halfway is its change
        middle = [widths[0] + step // 2, *widths[1:]]
        moved = predictor.one_ms([widths[0] + step, *widths[1:]]) - predictor.one_ms(widths)
        slope = predictor.evaluate([middle]).gradient[0][0]
        assert moved == pytest.approx(step * slope, rel=1e-3)
    assert (gradient > 0).all()


def test_a_small_case_is_trained_pruned_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "machine_folder", lambda quick: tmp_path)
    outcome = published.run(True)
    (case,) = outcome.data["cases"]
    assert 0.3 < case["left"]["multiply-accumulates"] <= 0.6
    assert outcome.rows[0]["our loss, points"] == (
        f"{case['dense_accuracy'] - case['accuracy']:.2f}"
    )


def test_a_network_with_more_than_the_published_share_is_a_missed_bar() -> None:
    pfp = next(one for one in published.PUBLISHED if one.title == "PFP")
    case: dict[str, Any] = {"left": {"parameters": 0.61, "multiply-accumulates": 0.5}}
    held = [bar.holds for bar in published._bars(len(published.PUBLISHED), [(pfp, case)])]
    assert held == [False, False]
