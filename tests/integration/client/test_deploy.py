"""Whole jobs for networks that are fused for deployment."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from pruning_client import (
    Campaign,
    Magnitude,
    ModelError,
    Training,
    as_batches,
    finetune,
    load,
    prune,
)
from tests.support.boards import ServedBoard
from tests.support.reparameterised import RepVgg, RepVggBlock, fuse
from tests.support.tiny_networks import digits

CAMPAIGN = Campaign(architectures=12, repeats=2, timeout_seconds=60)
TRAINING = Training(epochs=1, lr=0.01, batch_size=64)


def learnt() -> nn.Module:
    torch.manual_seed(0)
    model = RepVgg(1, 10)
    finetune(model, as_batches(digits(), batch_size=64), Training(epochs=4, lr=0.05))
    return model


def test_the_deployed_form_is_measured_and_delivered(served: ServedBoard, tmp_path: Path) -> None:
    model = learnt()
    result = prune(
        model,
        digits(),
        budget="75%",
        target="board",
        client=served.client,
        method=Magnitude(),
        training=TRAINING,
        campaign=CAMPAIGN,
        deploy=fuse,
        out_dir=tmp_path,
    )
    assert result.met
    assert result.report.pruned.accuracy > 80
    graph = onnx.load_from_string(result.file).graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("Conv") == 5
    assert "BatchNormalization" not in operators
    assert "Add" not in operators
    weights = sum(t.dims[0] for t in graph.initializer if t.name.endswith("fused.bias"))
    assert weights < 12 * 3 + 20 * 2
    # the network itself keeps its branches, and can be trained further
    assert isinstance(result.module.get_submodule("blocks.1"), RepVggBlock)
    assert result.module.get_submodule("blocks.1.one") is not None
    loaded = load(RepVgg(1, 10), tmp_path / "pruned.safetensors").eval()
    images = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(loaded(images), result.module(images))
    assert "deploy=fuse)" in result.report.command


def test_a_broken_hook_ends_the_job_before_anything_is_measured(served: ServedBoard) -> None:
    def breaks(network: nn.Module) -> None:
        fuse(network)
        network.get_submodule("blocks.1").fused.bias.data += 1

    with pytest.raises(ModelError, match=r"something else .* module 'blocks\.1'"):
        prune(
            RepVgg(1, 10),
            digits(),
            budget="75%",
            target="board",
            client=served.client,
            deploy=breaks,
        )
    assert not served.client.spaces()
