"""One whole job with every method: real service, real digits, a device whose truth is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pruning_client import accuracy, as_batches, load, prune
from pruning_client.methods.registry import METHODS
from pruning_client.service.campaign import Campaign
from pruning_client.training.config import Training
from tests.support.boards import ServedBoard
from tests.support.short_methods import short
from tests.support.tiny_networks import TinyNet, digits, tiny_net


@pytest.mark.long
@pytest.mark.parametrize("name", METHODS)
def test_the_budget_is_met_as_measured(
    name: str, served: ServedBoard, trained: TinyNet, tmp_path: Path
) -> None:
    result = prune(
        trained,
        digits(),
        budget="60%",
        client=served.client,
        method=short(name),
        training=Training(epochs=2, lr=0.03, batch_size=64),
        campaign=Campaign(architectures=12, repeats=2, timeout_seconds=60),
        out_dir=tmp_path,
    )
    report = result.report
    assert report.met
    assert 0.85 * report.budget_ms < report.pruned.latency_ms <= report.budget_ms
    assert accuracy(result.module, as_batches(digits())) > 60
    loaded = load(tiny_net(), tmp_path / "pruned.safetensors").eval()
    x = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), result.module(x))
