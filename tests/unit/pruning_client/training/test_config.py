"""Settings that are not valid are refused when they are made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from pruning_client.errors import UsageError
from pruning_client.training import recipes
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe
from pruning_client.training.metrics import MeanIou, quality


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": -1},
        {"epochs": 1.5},
        {"lr": 0},
        {"lr": "0.1"},
        {"lr": float("nan")},
        {"momentum": 1},
        {"weight_decay": -1e-4},
        {"distillation": 2},
        {"temperature": 0},
        {"recalibration_batches": -1},
        {"seed": -1},
        {"batch_size": 0},
        {"batch_size": True},
        {"micro_batch": -1},
        {"held_out": 0},
        {"held_out": 20},
        {"precision": "float16"},
        {"recipe": "segmentation"},
        {"recipe": recipes.segmentation},
    ],
)
def test_each_setting_has_a_range(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(options))}|precision"):
        Training(**options)


def test_settings_within_their_ranges_are_taken() -> None:
    taken = Training(epochs=0, lr=None, micro_batch=1, distillation=0, batch_size=1, held_out=0.5)
    assert (taken.epochs, taken.lr) == (0, None)


@pytest.mark.parametrize(
    "parts", [{"metric": MeanIou()}, {"loss": "cross-entropy"}, {"outputs": "scores"}]
)
def test_parts_of_a_recipe_must_be_callable(parts: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"Recipe\(|no outputs"):
        Recipe(**parts)


@pytest.mark.parametrize("value", [torch.tensor(50.0), 50, "nan", None, (1, 2), float("inf"), "x"])
def test_a_quality_is_a_finite_number(value: Any) -> None:
    recipe = Recipe(loss=F.mse_loss, evaluate=lambda _: value)
    if value in (50, torch.tensor(50.0)):
        found = quality(torch.nn.Linear(1, 1), [], recipe)  # type: ignore[arg-type]
        assert found == 50
        assert type(found) is float
        return
    with pytest.raises(UsageError, match="`evaluate` returns is no finite number but"):
        quality(torch.nn.Linear(1, 1), [], recipe)  # type: ignore[arg-type]
