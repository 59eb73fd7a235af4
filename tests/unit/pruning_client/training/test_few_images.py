"""Settings that follow the number of images, and distillation on mixed ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.data.batch import Batch
from pruning_client.data.sources import as_batches, usual_batch_size
from pruning_client.execution.journal import Journal
from pruning_client.pipeline.settings import JobRequest, JobSettings
from pruning_client.training.config import Training
from pruning_client.training.few_images import for_images
from pruning_client.training.hooks import Recipe
from pruning_client.training.mixing import can_be_mixed, mixed
from pruning_client.training.trainer import finetune
from tests.support.tiny_networks import digits, tiny_net


@pytest.mark.parametrize(
    ("images", "size"), [(50_000, 128), (2048, 128), (2047, 64), (700, 32), (40, 32), (1, 32)]
)
def test_few_images_make_small_batches(images: int, size: int) -> None:
    assert usual_batch_size(images) == size


@pytest.mark.parametrize(
    ("images", "epochs", "mixing"),
    [(50_000, 6, False), (10_000, 6, False), (5_000, 12, True), (560, 108, True), (9, 120, True)],
)
def test_few_images_are_seen_more_often_and_mixed(images: int, epochs: int, mixing: bool) -> None:
    filled = for_images(Training(), images)
    assert (filled.epochs, filled.mixing) == (epochs, mixing)


def test_a_few_epochs_are_not_mixed() -> None:
    assert for_images(Training(epochs=6), 560).mixing is False
    assert for_images(Training(epochs=7), 560).mixing is True


def test_what_is_given_stays() -> None:
    given = Training(epochs=3, mixing=False)
    assert for_images(given, 10) == given


def test_a_request_counts_the_images_that_are_trained_on() -> None:
    images, labels = digits()
    request = JobRequest(model=tiny_net(), data=(images[:700], labels[:700]))
    train, _ = request.batches()
    filled = request.for_data(train).settings.training
    # 560 of the images train, in 17 whole batches of 32
    assert (len(train), filled.epochs) == (17, -(-60_000 // (17 * 32)))


def test_a_given_batch_size_stays() -> None:
    settings = JobSettings(training=Training(batch_size=100))
    train, _ = JobRequest(model=tiny_net(), data=digits(), settings=settings).batches()
    assert len(next(iter(train.shuffled(0)))) == 100


def _batch() -> Batch:
    return next(iter(as_batches(digits(), batch_size=64).shuffled(0)))


def test_a_mixture_lies_between_two_images() -> None:
    batch = _batch()
    (x,), (made,) = batch.inputs, mixed(batch, seed=1).inputs
    flat, found = x.flatten(1), made.flatten(1)
    for image, mixture in zip(flat, found, strict=True):
        # along the line to the other image: the share is the same for every pixel
        lines = [
            (other - image, mixture - image) for other in flat if not torch.equal(other, image)
        ]
        shares = [(way @ gone) / (way @ way) for way, gone in lines]
        rest = [
            float((gone - share * way).abs().max())
            for share, (way, gone) in zip(shares, lines, strict=True)
        ]
        assert min(rest) < 1e-5
    assert float((found - flat).abs().mean()) > 0.01


def test_the_same_seed_mixes_alike() -> None:
    batch = _batch()
    first, again, other = (mixed(batch, seed).inputs[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(mixed(batch, 1).target, batch.target)


class _Words(nn.Module):
    def forward(self, words: Tensor) -> Tensor:
        return F.one_hot(words[:, 0], 10).float()


def test_words_and_other_answers_are_not_mixed() -> None:
    batch = _batch()
    words = Batch((torch.zeros(4, 3, dtype=torch.long),), torch.zeros(4, dtype=torch.long))
    model = tiny_net()
    assert can_be_mixed(model, model, batch, Recipe())
    assert not can_be_mixed(_Words(), _Words(), words, Recipe())
    assert not can_be_mixed(model, model, batch.first(1), Recipe())
    regression = Batch(batch.inputs, torch.rand(len(batch), 10))
    recipe = Recipe(loss=F.mse_loss, evaluate=lambda _: 0.0)
    assert not can_be_mixed(model, model, regression, recipe)


class _Auxiliary(nn.Module):
    """Gives a second head's scores as well in training mode, as GoogLeNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.net = tiny_net()

    def forward(self, x: Tensor) -> Any:
        scores = self.net(x)
        return (scores, 0.5 * scores) if self.training else scores


def test_networks_with_other_outputs_in_training_are_not_mixed() -> None:
    train, _ = as_batches(digits(), batch_size=64).split(0.2, 0)

    def loss(outputs: Any, labels: Tensor) -> Tensor:
        return sum((F.cross_entropy(part, labels) for part in outputs), torch.zeros(()))

    training = Training(epochs=2, lr=0.01, mixing=True, recipe=Recipe(loss=loss, outputs="classes"))
    history = finetune(_Auxiliary(), train, training, teacher=_Auxiliary())
    assert ["mixed_loss" in entry for entry in history] == [False, False]


class _Labelled:
    """Cross-entropy that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        return F.cross_entropy(outputs, labels)


@pytest.mark.parametrize(("mixing", "labelled"), [(True, 2), (False, 4)])
def test_labels_do_not_count_for_mixtures(mixing: bool, labelled: int) -> None:
    train, _ = as_batches(digits(), batch_size=64).split(0.2, 0)
    loss = _Labelled()
    training = Training(
        epochs=4, lr=0.05, mixing=mixing, recipe=Recipe(loss=loss, outputs="classes")
    )
    history = finetune(tiny_net(), train, training, teacher=tiny_net())
    assert loss.calls == labelled * len(train)
    assert ["mixed_loss" in entry for entry in history] == [False, mixing] * 2


def test_without_a_teacher_nothing_is_mixed() -> None:
    train, _ = as_batches(digits(), batch_size=64).split(0.2, 0)
    weights = []
    for mixing in (True, False):
        model = tiny_net()
        finetune(model, train, Training(epochs=2, lr=0.05, mixing=mixing))
        weights.append(model.fc.weight)
    assert torch.equal(*weights)


def test_a_training_with_mixtures_resumes_to_the_same_weights(tmp_path: Path) -> None:
    train, _ = as_batches(digits(), batch_size=64).split(0.2, 0)
    training = Training(epochs=4, lr=0.05, mixing=True)

    def trained(folder: Path, stop_after: int | None, *, resume: bool) -> Any:
        model = tiny_net()
        seen = 0

        def evaluate(_: nn.Module) -> float:
            nonlocal seen
            seen += 1
            if stop_after is not None and seen > stop_after:
                raise KeyboardInterrupt
            return 0.0

        finetune(
            model,
            train,
            training,
            teacher=tiny_net(),
            evaluate=evaluate,
            journal=Journal(folder, resume=resume),
        )
        return model.fc.weight

    whole = trained(tmp_path / "whole", None, resume=False)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", 2, resume=False)
    assert torch.equal(whole, trained(tmp_path / "cut", None, resume=True))
