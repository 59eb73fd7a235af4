"""Networks that lost channels, made up for in the layers that read them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Ints
from pruning_client.data.batch import Batch
from pruning_client.data.batches import Batches
from pruning_client.data.sources import as_batches
from pruning_client.execution.progress import ProgressEvent
from pruning_client.graph import comparison, proof
from pruning_client.graph.space import Traced, make_space
from pruning_client.graph.surgery import slim
from pruning_client.training.batch_norm import mark_frozen, recalibrate_batch_norm
from pruning_client.training.compensation.affine import outputs_kept
from pruning_client.training.compensation.calibration import Calibration
from pruning_client.training.compensation.compensate import Compensated, Imitated, compensate
from pruning_client.training.config import Training
from pruning_client.training.metrics import accuracy
from tests.support.families import traced_family
from tests.support.tiny_networks import TinyNet, digits

INNER = 7
FAMILIES = ("vgg", "mobilenet-v2", "densenet", "regnet", "unet", "two-streams", "hard-coded")


@pytest.fixture
def data() -> Batches:
    return as_batches(digits(), batch_size=64)


@pytest.fixture
def inner(traced: Traced) -> int:
    """The width group inside the block."""
    return next(p.group for p in traced.producers if p.module == "block.conv1")


class Values(nn.Module):
    """Two outputs that are no class scores, without batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.map = nn.Conv2d(8, 1, 1)
        self.value = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.second(self.first(x).relu()).relu()
        return {"map": self.map(features), "value": self.value(features.mean((2, 3)))}


def without(traced: Traced, *removed: tuple[int, int]) -> list[Ints]:
    """All channels but some, each given by group and channel."""
    keep = [np.arange(group.width) for group in traced.space.groups]
    for group, channel in removed:
        keep[group] = keep[group][keep[group] != channel]
    return keep


def half(traced: Traced) -> list[Ints]:
    return [np.arange(0, group.width, 2) for group in traced.space.groups]


def run(
    model: nn.Module, traced: Traced, keep: list[Ints], data: Batches, **more: Any
) -> Compensated:
    imitated = more.pop("imitated", Imitated(model=model))
    training = more.pop("training", Training())
    return compensate(model, traced, keep, data, training, imitated=imitated, **more)


def cut(found: Compensated, traced: Traced, keep: list[Ints], data: Batches) -> nn.Module:
    """The smaller network with statistics of its own, as a job makes it."""
    small = slim(found.model, traced, keep)
    if found.keeps_scales:
        with outputs_kept(small):
            recalibrate_batch_norm(small, data, batches=50)
    else:
        recalibrate_batch_norm(small, data, batches=50)
    return small


def inputs(data: Batches) -> Tensor:
    return next(data.ordered()).inputs[0]


@torch.no_grad()
def test_a_repeated_channel_is_made_up_for_completely(
    trained: TinyNet, traced: Traced, inner: int, data: Batches
) -> None:
    """Its twin takes its part: the outputs are the dense network's."""
    model = copy.deepcopy(trained)
    for tensor in (*model.block.conv1.parameters(), *model.block.bn1.state_dict().values()):
        if tensor.dim():
            tensor[INNER] = tensor[INNER - 1]
    keep = without(traced, (inner, INNER))
    x = inputs(data)
    wanted = model(x)
    plain = slim(model, traced, keep)(x)
    found = run(model, traced, keep, data)
    made_up = slim(found.model, traced, keep)(x)
    assert (plain - wanted).abs().max() > 0.1
    assert (made_up - wanted).abs().max() < 0.02
    assert found.keeps_scales
    assert "block.conv2" in found.layers


def test_half_the_channels_are_missed_much_less(
    trained: TinyNet, traced: Traced, data: Batches
) -> None:
    """Without a label; held-out images decide."""
    train, held_out = data.split(0.3, 0)
    keep = half(traced)
    plain = cut(Compensated(model=trained), traced, keep, train)
    made_up = cut(run(trained, traced, keep, train), traced, keep, train)
    assert accuracy(made_up, held_out) > accuracy(plain, held_out) + 15


def test_the_network_is_left_alone(trained: TinyNet, traced: Traced, data: Batches) -> None:
    before = copy.deepcopy(trained.state_dict())
    found = run(trained, traced, half(traced), data)
    assert found.model is not trained
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert not any(module._forward_hooks for module in found.model.modules())


def test_the_same_seed_repeats(trained: TinyNet, traced: Traced, data: Batches) -> None:
    first, again = (run(trained, traced, half(traced), data).model for _ in range(2))
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_every_layer_is_reported(trained: TinyNet, traced: Traced, data: Batches) -> None:
    events: list[ProgressEvent] = []
    run(trained, traced, half(traced), data, progress=events.append)
    assert [event.done for event in events] == [1, 2, 3, 4]
    assert {(event.phase, event.total, event.unit) for event in events} == {
        ("compensate", 4, "layers")
    }


def test_nothing_changes_where_nothing_is_lacking() -> None:
    torch.manual_seed(0)
    model = Values().eval()
    images, _ = digits()
    data = as_batches((images[:200], torch.zeros(200)), batch_size=50)
    traced = make_space(model, torch.rand(2, 1, 8, 8))
    found = run(model, traced, without(traced), data)
    assert found.model is model
    assert not found.layers


def test_too_few_images_change_nothing(trained: TinyNet, traced: Traced) -> None:
    images, labels = digits()
    data = as_batches((images[:6], labels[:6]), batch_size=6)
    assert run(trained, traced, half(traced), data).model is trained


def test_frozen_norms_stay(trained: TinyNet, traced: Traced, data: Batches) -> None:
    model = copy.deepcopy(trained)
    model.block.bn2.requires_grad_(False)
    assert mark_frozen(model) == ["block.bn2"]
    found = run(model, traced, half(traced), data)
    assert "block.conv2" in found.layers
    small = cut(found, traced, half(traced), data)
    for name, value in model.block.bn2.state_dict().items():
        kept = value[::2] if value.dim() else value
        assert torch.equal(small.block.bn2.state_dict()[name], kept), name


def test_other_outputs_than_class_scores() -> None:
    """No labels, no classes, no batch norms."""
    torch.manual_seed(0)
    model = Values().eval()
    images, _ = digits()
    data = as_batches((images[:200], torch.zeros(200)), batch_size=50)
    traced = make_space(model, torch.rand(2, 1, 8, 8))
    found = run(model, traced, half(traced), data)
    assert set(found.layers) == {"second", "map", "value"}
    before, after = found.distances or (0, 0)
    assert after < 0.5 * before


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_brought_nearer(family: str) -> None:
    """What is cut computes what was fitted."""
    drawn, traced = traced_family(family)
    model = copy.deepcopy(drawn)
    random = torch.Generator().manual_seed(0)
    images = tuple(torch.randn(48, *x.shape[1:], generator=random) for x in traced.example)
    data = as_batches((images, torch.zeros(48)), batch_size=48)
    recalibrate_batch_norm(model, data, batches=1)
    keep = proof.random_keep(traced.space)
    found = run(model, traced, keep, data)
    assert found.distances is not None
    before, after = found.distances
    assert after < before
    with proof.gated(found.model.eval(), traced.gates, keep):
        wanted = proof.run_torch(found.model, traced.example)
    small = slim(found.model, traced, keep)
    assert comparison.agree(wanted, proof.run_torch(small, traced.example))


def test_a_network_cut_again_imitates_what_it_was(
    trained: TinyNet, traced: Traced, data: Batches
) -> None:
    """The channels that it has lost before count no more."""
    first = [np.arange(0, 16, 2), np.arange(12)]
    second = [np.arange(0, 16, 2), np.arange(8)]
    found = run(trained, traced, second, data, imitated=Imitated(model=trained, keep=first))
    x = inputs(data)
    with torch.no_grad():
        wanted, plain, made_up = (
            slim(model, traced, keep)(x)
            for model, keep in ((trained, first), (trained, second), (found.model, second))
        )
    assert (made_up - wanted).square().mean() < 0.7 * (plain - wanted).square().mean()


@torch.no_grad()
def test_statistics_change_and_outputs_do_not(trained: TinyNet, data: Batches) -> None:
    model = copy.deepcopy(trained)
    x = inputs(data)
    model.conv.weight *= 1.5
    before = model(x)
    with outputs_kept(model):
        recalibrate_batch_norm(model, data, batches=5)
    torch.testing.assert_close(model(x), before, rtol=1e-3, atol=1e-3)
    seen = model.conv(torch.cat([batch.inputs[0] for batch in data.ordered()]))
    torch.testing.assert_close(model.bn.running_mean, seen.mean((0, 2, 3)), rtol=0.1, atol=0.1)


def test_targets_that_cannot_be_cut_stay_whole() -> None:
    """Boxes of all images of a batch, each with the number of its image."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    boxes = torch.rand(11, 6)
    drawn = Calibration.draw(model, _Detections(boxes), seed=0)
    assert drawn is not None
    assert sum(map(len, [*drawn.fit, *drawn.held_out])) == len(drawn.inputs[0]) == 16
    assert all(batch.target is boxes for batch in [*drawn.fit, *drawn.held_out])


class _Detections:
    def __init__(self, boxes: Tensor) -> None:
        self._boxes = boxes

    def __len__(self) -> int:
        return 2

    def shuffled(self, seed: int) -> Iterator[Batch]:
        for _ in range(2):
            yield Batch((torch.rand(8, 3, 8, 8),), self._boxes)

    def ordered(self) -> Iterator[Batch]:
        return self.shuffled(0)

    def split(self, share: float, seed: int) -> tuple[Batches, Batches]:
        raise NotImplementedError
