"""What is tried before anything starts: steps, optimisers and precisions of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau

from pruning_client.data.batch import Batch
from pruning_client.errors import DataError, ModelError, UsageError
from pruning_client.graph.space import Traced, make_space
from pruning_client.pipeline.rehearsal import rehearse
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, Traced]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    return model, make_space(model, torch.rand(2, 1, 8, 8))


def images(count: int = 8, target: Any = None) -> Batch:
    labels = torch.arange(count) % 4 if target is None else target
    return Batch((torch.rand(count, 1, 8, 8),), labels)


def try_(network: tuple[nn.Module, Traced], batch: Batch | None = None, **options: Any) -> None:
    rehearse(*network, batch or images(), Training(**options))


def test_a_loss_that_needs_a_whole_batch_gets_one(network: tuple[nn.Module, Traced]) -> None:
    sizes = []

    def triplet(outputs: Tensor, labels: Tensor) -> Tensor:
        sizes.append(len(outputs))
        same = labels[:, None] == labels
        same.fill_diagonal_(False)
        if not same.any():
            return torch.zeros(())  # no pair: no gradient
        return torch.cdist(outputs, outputs)[same].mean()

    try_(network, recipe=Recipe(loss=triplet, evaluate=lambda _: 1.0))
    assert set(sizes) == {2, 8}


def test_targets_with_the_number_of_their_image_stay_whole(
    network: tuple[nn.Module, Traced],
) -> None:
    boxes = torch.cat([torch.arange(8).repeat(3)[:, None].float(), torch.rand(24, 5)], 1)

    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(outputs[target[:, 0].long()], target[:, 2:])

    recipe = Recipe(loss=loss, evaluate=lambda _: 1.0)
    try_(network, images(target=boxes), recipe=recipe)
    with pytest.raises(DataError, match="cannot be cut into pieces"):
        try_(network, images(target=boxes), recipe=recipe, micro_batch=4)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(optimiser=torch.optim.AdamW),  # type: ignore[arg-type]
        Recipe(optimiser=lambda model: torch.optim.LBFGS(model.parameters())),
        Recipe(schedule=lambda optimiser: None),  # type: ignore[arg-type, misc]
        Recipe(schedule=lambda optimiser, _: ReduceLROnPlateau(optimiser)),  # type: ignore[arg-type, return-value]
    ],
)
def test_an_optimiser_or_schedule_that_does_not_fit_is_refused(
    network: tuple[nn.Module, Traced], recipe: Recipe
) -> None:
    with pytest.raises(UsageError, match="optimiser or schedule fails"):
        try_(network, recipe=recipe)


def test_losses_get_float32_in_every_precision(network: tuple[nn.Module, Traced]) -> None:
    kinds = []

    def hungarian(outputs: Tensor, labels: Tensor) -> Tensor:
        kinds.append(outputs.detach().cpu().numpy().dtype)
        return F.cross_entropy(outputs, labels)

    try_(network, recipe=Recipe(loss=hungarian, evaluate=lambda _: 1.0), precision="bfloat16")
    assert {str(kind) for kind in kinds} == {"float32"}


@pytest.mark.parametrize(
    ("loss", "what"),
    [
        (lambda o, t: {"loss": F.cross_entropy(o, t)}, "a dictionary of 'loss'"),
        (lambda o, t: (F.cross_entropy(o, t), 0), "a tuple of"),
        (lambda o, t: None, "None"),
        (lambda o, t: F.cross_entropy(o, t, reduction="none"), r"a tensor \[2\]"),
    ],
)
def test_a_loss_that_is_no_number_is_named(
    network: tuple[nn.Module, Traced], loss: Callable[..., Any], what: str
) -> None:
    with pytest.raises(UsageError, match=f"loss returns {what}"):
        try_(network, recipe=Recipe(loss=loss, evaluate=lambda _: 1.0))


def test_a_network_without_anything_to_train_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    model.requires_grad_(False)
    traced = make_space(model, torch.rand(2, 1, 8, 8))
    with pytest.raises(ModelError, match="No parameter of the network is trained"):
        rehearse(model, traced, images(), Training())


def test_a_network_may_keep_its_activations() -> None:
    class Keeps(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            self.last = super().forward(x)
            return self.last

    model = Keeps(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))
    traced = make_space(model, torch.rand(2, 1, 8, 8))
    model(torch.rand(2, 1, 8, 8))
    rehearse(model, traced, images(), Training())
