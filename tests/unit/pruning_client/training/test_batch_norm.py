from __future__ import annotations

import torch
from torch import nn

from pruning_client.data.sources import as_batches
from pruning_client.training.batch_norm import mark_frozen, recalibrate_batch_norm
from pruning_client.training.config import Training
from pruning_client.training.metrics import accuracy
from pruning_client.training.trainer import finetune
from tests.support.tiny_networks import digits, tiny_net


def test_recalibration_restores_shifted_statistics() -> None:
    train, held_out = as_batches(digits(), batch_size=64).split(0.2, 0)
    model = tiny_net()
    finetune(model, train, Training(epochs=3, lr=0.1))
    good = accuracy(model, held_out)
    weights = {name: value.clone() for name, value in model.named_parameters()}
    for norm in (model.bn, model.block.bn1, model.block.bn2):
        assert norm.running_mean is not None
        norm.running_mean += 2.0
    assert accuracy(model, held_out) < good - 10
    recalibrate_batch_norm(model, train, batches=20)
    assert accuracy(model, held_out) > good - 3
    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())
    assert model.bn.momentum == 0.1
    assert not model.training


def test_recalibration_without_norms() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    recalibrate_batch_norm(model, as_batches(digits()), batches=1)


def test_only_norms_beside_layers_that_train_are_frozen() -> None:
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    assert mark_frozen(nn.Sequential(nn.Identity(), backbone)) == []
    backbone.train()[1].eval()
    assert mark_frozen(backbone) == ["1"]
