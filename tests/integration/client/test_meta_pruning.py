"""A whole job whose widths come from an evolutionary search with generated weights."""

from __future__ import annotations

from pathlib import Path

from pruning_client import MetaPruning, prune
from pruning_client.data.sources import as_batches
from pruning_client.service.campaign import Campaign
from pruning_client.training.config import Training
from pruning_client.training.trainer import finetune
from tests.support.boards import ServedBoard
from tests.support.tiny_networks import digits, tiny_net


def test_the_generated_weights_are_cut_trained_and_delivered(
    served: ServedBoard, tmp_path: Path
) -> None:
    model = tiny_net()
    finetune(model, as_batches(digits(), batch_size=64), Training(epochs=2, lr=0.1))
    result = prune(
        model,
        digits(),
        budget="60%",
        method=MetaPruning(epochs=2, generations=2, images=128),
        training=Training(epochs=2, lr=0.03, batch_size=64),
        campaign=Campaign(architectures=12, repeats=2, timeout_seconds=60),
        client=served.client,
        out_dir=tmp_path,
    )
    assert result.met
    assert result.report.pruned.accuracy > 70
    phases = {entry["phase"] for entry in result.report.history}
    assert phases == {"train generated weights", "search widths", "fine-tune"}
    assert (tmp_path / "report.html").exists()
