"""Whole jobs for tasks, data and training as users have them; each ended badly before."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from pruning_client import (
    Campaign,
    DataError,
    Magnitude,
    ModelError,
    PruningWarning,
    Recipe,
    Samples,
    Target,
    Training,
    TrainingFailed,
    WGates,
    as_batches,
    finetune,
    prune,
    recipes,
)
from pruning_client.training.metrics import Accuracy, evaluate
from tests.support.boards import ServedBoard
from tests.support.tasks import (
    Discs,
    Keypoints,
    QuarterNet,
    Segmenter,
    Siamese,
    points,
    quarters,
)
from tests.support.tiny_networks import digits, tiny_net

CAMPAIGN = Campaign(architectures=12, repeats=2, timeout_seconds=60)


def learnt(model: nn.Module, data: Any, recipe: Recipe, epochs: int = 6) -> nn.Module:
    torch.manual_seed(0)
    finetune(
        model, as_batches(data, batch_size=32), Training(epochs=epochs, lr=0.05, recipe=recipe)
    )
    return model


def go(served: ServedBoard, model: nn.Module, data: Any, recipe: Recipe, **more: Any) -> Any:
    arguments = {
        "budget": "75%",
        "target": "board",
        "client": served.client,
        "method": Magnitude(),
        "training": Training(epochs=2, lr=0.01, batch_size=32, recipe=recipe),
        "campaign": CAMPAIGN,
        **more,
    }
    return prune(model, data, **arguments)


@pytest.mark.parametrize(
    "method", [Magnitude(), pytest.param(WGates(epochs=1), marks=pytest.mark.long)]
)
def test_segmentation(served: ServedBoard, method: Any) -> None:
    """The loss of distillation was summed over pixels: weights of NaN were delivered, and met."""
    torch.manual_seed(0)
    data = DataLoader(Discs(), batch_size=12, shuffle=True)
    recipe = recipes.segmentation()
    model = learnt(Segmenter(), data, recipe)
    report = go(served, model, data, recipe, method=method).report
    assert report.met
    assert report.dense.accuracy > 60
    assert report.pruned.accuracy > report.dense.accuracy - 15
    assert max(entry["loss"] for entry in report.history) < 5


def test_keypoints(served: ServedBoard) -> None:
    """A softmax over coordinates was imitated."""
    torch.manual_seed(0)
    recipe = recipes.regression()
    model = learnt(Keypoints(), points(), recipe, epochs=20)
    kept, alone = (
        go(
            served,
            model,
            points(),
            recipe,
            training=Training(epochs=6, batch_size=32, recipe=recipe, distillation=share),
        ).report.pruned.accuracy
        for share in (0.7, 0.0)
    )
    assert kept > alone - 3
    assert kept > 80


def test_labels_in_a_column_and_a_loss_that_squeezes_them(served: ServedBoard) -> None:
    """Accuracy was 168 %."""
    recipe = Recipe(loss=lambda scores, labels: F.cross_entropy(scores, labels[:, 0]))
    data = quarters(lambda image, label: (image, label[None]))
    report = go(served, learnt(QuarterNet(), data, recipe), data, recipe).report
    assert report.met
    assert 90 < report.dense.accuracy <= 100
    assert 90 < report.pruned.accuracy <= 100


@pytest.mark.parametrize("precision", ["fp32", pytest.param("int8", marks=pytest.mark.long)])
def test_two_inputs(served: ServedBoard, precision: Any) -> None:
    data = quarters(lambda image, label: ((image, image.flip(0)), label))
    model = learnt(Siamese(), data, Recipe())
    target = Target(device="board", precision=precision)
    result = go(served, model, data, Recipe(), target=target, method=WGates(epochs=1))
    assert result.met
    assert result.report.pruned.accuracy > 90
    left = torch.rand(3, 1, 8, 8)
    assert result.module(left, left).shape == (3, 4)


@pytest.mark.long
def test_dictionaries_with_keys_of_their_own(served: ServedBoard) -> None:
    data = quarters(lambda image, label: {"scan": image, "finding": label, "path": "a.png"})
    samples = Samples(data, inputs="scan", target="finding")
    report = go(served, learnt(QuarterNet(), samples, Recipe()), samples, Recipe()).report
    assert report.met
    assert report.pruned.accuracy > 90


def test_targets_of_any_structure(served: ServedBoard) -> None:
    """A different number of boxes for each image."""

    def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
        return torch.stack([x for x, _ in samples]), [
            label.expand(1 + label) for _, label in samples
        ]

    def loss(scores: Tensor, boxes: list[Tensor]) -> Tensor:
        return F.cross_entropy(scores, torch.stack([box[0] for box in boxes]))

    own = quarters(lambda image, label: (image, label))
    data = DataLoader(own.dataset, batch_size=16, shuffle=True, collate_fn=collate)
    recipe = Recipe(loss=loss, evaluate=lambda model: 50.0)
    result = go(served, learnt(QuarterNet(), data, recipe), data, recipe)
    assert result.met
    right = evaluate(result.module, as_batches(own), Accuracy())
    assert right > 90


def test_a_loss_that_is_not_finite_stops_the_job(served: ServedBoard, tmp_path: Path) -> None:
    calls = []

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        calls.append(1)
        return F.cross_entropy(scores, labels) * (float("nan") if len(calls) > 10 else 1)

    training = Training(epochs=1, batch_size=64, recipe=Recipe(loss=loss))
    with pytest.raises(TrainingFailed, match=r"The loss is nan at step \d+ of 22 in 'fine-tune'"):
        go(served, tiny_net(), digits(), training.recipe, training=training, out_dir=tmp_path)
    assert not (tmp_path / "pruned.onnx").exists()


def test_weights_that_are_not_finite_are_never_delivered(
    served: ServedBoard, tmp_path: Path
) -> None:
    """The user's own loop has no check of its own."""

    def spoil(small: nn.Module, _dense: nn.Module) -> None:
        with torch.no_grad():
            next(small.parameters())[0] = float("inf")

    recipe = Recipe(finetune=spoil)
    with pytest.raises(TrainingFailed, match=r"'conv.weight' holds values that are not finite"):
        go(served, tiny_net(), digits(), recipe, out_dir=tmp_path)
    assert not (tmp_path / "pruned.onnx").exists()


def test_a_dense_network_no_better_than_chance_is_said(served: ServedBoard) -> None:
    images, labels = digits()
    model = learnt(tiny_net(), (images, labels), Recipe(), epochs=2)
    with pytest.warns(PruningWarning, match="not clearly better than always giving") as said:
        report = go(served, model, (images, (labels + 1) % 10), Recipe(), budget="75%").report
    assert "classes are in another order" in str(said[0].message)
    assert report.warnings[0] == str(said[0].message)


@pytest.mark.long
def test_nothing_is_said_of_a_network_that_is_sound(served: ServedBoard) -> None:
    model = learnt(tiny_net(), digits(), Recipe())
    with warnings.catch_warnings():
        warnings.simplefilter("error", PruningWarning)
        assert go(served, model, digits(), Recipe()).report.warnings == []


def test_frozen_batch_norms_stay_as_they_are(served: ServedBoard) -> None:
    model = learnt(tiny_net(), digits(), Recipe())
    model.bn.requires_grad_(False)
    model.train()
    model.block.bn1.eval()
    with pytest.warns(PruningWarning, match=r"bn and 1 more: frozen batch norms"):
        small = go(served, model, digits(), Recipe(), method=WGates(epochs=1)).module
    for name in ("bn", "block.bn1"):
        dense = model.get_submodule(name).running_mean
        kept = small.get_submodule(name).running_mean
        assert set(kept.tolist()) <= set(dense.tolist())
    moved = small.block.bn2.running_mean
    assert not set(moved.tolist()) <= set(model.block.bn2.running_mean.tolist())


class Auxiliary(QuarterNet):
    """A second head in training mode alone."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Any:
        first = self.body[0](x)
        scores = self.fc(self.body[1](first).flatten(1))
        return (scores, self.second(first)) if self.training else scores

    def second(self, features: Tensor) -> Tensor:
        return self.auxiliary(features).mean((2, 3))


class Unclear(Auxiliary):
    """What the second head reads depends on values."""

    def second(self, features: Tensor) -> Tensor:
        return super().second(features if features.sum().item() > 0 else -features)


def test_a_head_of_training_mode_alone(served: ServedBoard) -> None:
    """It kept its full width, and the first training step failed."""

    def loss(outputs: Any, labels: Tensor) -> Tensor:
        return sum((F.cross_entropy(scores, labels) for scores in outputs), torch.zeros(()))

    recipe = Recipe(loss=loss, metric=Accuracy)
    data = quarters(lambda image, label: (image, label))
    result = go(served, learnt(Auxiliary(), data, recipe), data, recipe, method=WGates(epochs=1))
    assert result.met
    assert result.report.pruned.accuracy > 90
    small = result.module
    assert small.auxiliary.weight.shape[1] == small.body[0][0].weight.shape[0] < 12


@pytest.mark.parametrize(
    ("model", "loss", "error", "cause"),
    [
        (QuarterNet(), lambda s, y: F.l1_loss(s, s.T @ y), DataError, "training step fails"),
        (QuarterNet(), lambda s, _: s.sum() / 0, DataError, "training step is"),
        (Unclear(), lambda s, y: F.cross_entropy(s[0], y), ModelError, "cannot be trained"),
    ],
)
def test_what_cannot_end_does_not_begin(
    served: ServedBoard, model: nn.Module, loss: Any, error: Any, cause: str
) -> None:
    data = quarters(lambda image, label: (image, label))
    with pytest.raises(error, match=cause):
        go(served, model, data, Recipe(loss=loss, evaluate=lambda _: 50.0))
    assert served.client.spaces() == []
    assert served.board.jobs == []
