"""What outputs are, and how they are imitated."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.data.batch import Batch
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe
from pruning_client.training.losses import TrainingLoss
from pruning_client.training.metrics import Determination
from pruning_client.training.outputs import (
    are_class_scores,
    class_distance,
    class_labels,
    output_distance,
    relative_distance,
)

OWN = Recipe(loss=lambda _outputs, _target: torch.zeros(()))
SCORES = torch.rand(6, 3)
MAPS = torch.rand(6, 3, 4, 4)


@pytest.mark.parametrize(
    ("outputs", "target", "expected"),
    [
        (SCORES, torch.tensor([0, 1, 2, 0, 1, 255]), True),
        (SCORES, torch.tensor([[0], [1], [2], [0], [1], [2]]), True),
        (SCORES, torch.eye(3)[torch.tensor([0, 1, 2, 0, 1, 2])], True),
        (MAPS, torch.randint(0, 3, (6, 4, 4)), True),
        (MAPS, torch.randint(0, 3, (6, 1, 4, 4)), True),
        (SCORES, torch.rand(6, 3) * 224, False),
        (SCORES, torch.randint(0, 224, (6, 3)), False),
        (torch.rand(6, 1), torch.randint(0, 2, (6,)), False),
        ([MAPS, MAPS], torch.randint(0, 3, (6, 4, 4)), False),
        (SCORES, [torch.rand(2, 5)] * 6, False),
    ],
)
def test_whether_outputs_are_class_scores(outputs: Any, target: Any, expected: bool) -> None:
    assert are_class_scores(OWN, outputs, target) is expected
    assert not are_class_scores(Recipe(outputs="values"), outputs, target)
    is_scores = torch.is_tensor(outputs) and outputs.shape[1] > 1
    assert are_class_scores(Recipe(outputs="classes"), outputs, target) is is_scores


def test_labels_that_are_no_class_do_not_count() -> None:
    labels = class_labels(MAPS, torch.full((6, 4, 4), 255))
    assert labels is not None
    assert set(labels.flatten().tolist()) == {-1}


def test_the_distance_does_not_depend_on_the_number_of_pixels() -> None:
    teacher = torch.randn(4, 3)
    student = torch.randn(4, 3)
    once = class_distance(student, teacher, 3.0)
    wide = [x[:, :, None, None].expand(-1, -1, 48, 48) for x in (student, teacher)]
    assert float(class_distance(*wide, 3.0)) == pytest.approx(float(once), rel=1e-4)
    assert float(once) == pytest.approx(
        9
        * float(
            F.kl_div(
                (student / 3).log_softmax(1),
                (teacher / 3).log_softmax(1),
                reduction="batchmean",
                log_target=True,
            )
        ),
        rel=1e-5,
    )


def test_ignored_pixels_are_not_imitated() -> None:
    training = Training(recipe=OWN)
    target = torch.zeros(6, 4, 4, dtype=torch.int64)
    target[:, 0] = 255
    student = MAPS.clone()
    student[:, :, 0] += torch.rand(3, 4) * 100
    assert float(output_distance(training, student, MAPS, target) or 0) == pytest.approx(0)
    assert float(output_distance(training, student, MAPS, target * 0) or 0) > 1


def test_values_are_imitated_in_units_of_their_spread() -> None:
    dense = {"points": 224 * torch.rand(8, 4), "note": "kept"}
    near = {"points": dense["points"] + 1, "note": "kept"}  # type: ignore[operator]
    pixels = relative_distance(near, dense)
    scaled = relative_distance(
        {"points": near["points"] / 224},
        {"points": dense["points"] / 224},  # type: ignore[operator]
    )
    assert float(pixels) == pytest.approx(float(scaled), rel=1e-3)
    assert 0 < float(pixels) < 0.01


def test_outputs_of_other_structure_are_not_imitated() -> None:
    training = Training(recipe=OWN)
    assert output_distance(training, (MAPS, MAPS), MAPS, None) is None
    assert output_distance(training, [SCORES], [MAPS], None) is None
    assert output_distance(training, {"a": SCORES}, {"a": SCORES}, None) is not None


def test_labels_in_a_column_fit_the_default_loss() -> None:
    def model(x: Tensor) -> Tensor:
        return x

    loss = TrainingLoss(training=Training())
    flat, column = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([[0], [1], [2], [0], [1], [2]])
    found = [loss(model, Batch((SCORES,), labels)) for labels in (flat, column)]  # type: ignore[arg-type]
    assert torch.equal(*found)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 224.0])
def test_distillation_of_values_has_the_scale_of_the_loss(scale: float) -> None:
    draw = torch.Generator().manual_seed(0)
    target = torch.randn(16, 4, generator=draw)
    wanted = target + 0.1 * torch.randn(16, 4, generator=draw)
    outputs = target + 0.3 * torch.randn(16, 4, generator=draw)
    batch = Batch((target,), scale * target)
    both = TrainingLoss(training=Training(recipe=regression(loss=F.mse_loss)))
    alone = both.of(scale * outputs, batch, None)
    found = both.of(scale * outputs, batch, scale * wanted)
    assert found / alone == pytest.approx(float(found_at_one(outputs, batch, wanted, scale)), 1e-3)
    assert 0.3 < found / alone < 1.5


def found_at_one(outputs: Tensor, batch: Batch, wanted: Tensor, scale: float) -> Tensor:
    """The same ratio by the formula: the distance is that of the squared loss."""
    target = batch.target / scale
    loss = F.mse_loss(outputs, target)
    others = wanted.roll(1, 0)
    rise = F.mse_loss(others, target) - F.mse_loss(wanted, target)
    share = relative_distance(outputs, wanted) / relative_distance(others, wanted)
    return (0.3 * loss + 0.7 * rise * share) / loss


def test_a_teacher_that_is_no_better_than_another_sample_s_is_not_imitated() -> None:
    target = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    batch = Batch((target,), target)
    loss = TrainingLoss(training=Training(recipe=regression(loss=F.mse_loss)))
    outputs = target + 0.3
    assert loss.of(outputs, batch, target.roll(-1, 0)) == loss.of(outputs, batch, None)


def regression(loss: Any) -> Recipe:
    return Recipe(loss=loss, metric=Determination, outputs="values")


def test_embeddings_with_identities_are_no_class_scores() -> None:
    embeddings = torch.randn(8, 16)
    identities = torch.arange(8)
    own = Recipe(loss=lambda _outputs, _target: torch.zeros(()), evaluate=lambda _: 1.0)
    assert not are_class_scores(own, embeddings, identities)
    with_metric = Recipe(loss=own.loss, metric=Determination)
    assert not are_class_scores(with_metric, embeddings, identities + 20)


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(ignore_index=-1),
        partial(F.cross_entropy, label_smoothing=0.1),
        nn.NLLLoss(),
    ],
)
def test_cross_entropy_in_any_form_takes_labels_in_a_column(loss: Any) -> None:
    recipe = Recipe(loss=loss, evaluate=lambda _: 1.0)
    assert are_class_scores(recipe, SCORES, torch.zeros(6, 1))
    batch = Batch((SCORES,), torch.tensor([[0], [1], [2], [0], [1], [2]]))
    found = TrainingLoss(training=Training(recipe=recipe)).of(SCORES, batch, None)
    assert found == loss(SCORES, batch.target.squeeze(1))
