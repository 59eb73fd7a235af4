"""What candidates are compared by."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from pruning_client.data.sources import as_batches
from pruning_client.graph.space import Traced, make_space
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context
from pruning_client.methods.meta_pruning.fitness import Fitness, split
from pruning_client.methods.meta_pruning.training import NetworkOptions, make_network
from pruning_client.training.batch_norm import recalibrate_batch_norm
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe
from pruning_client.training.metrics import Determination, accuracy
from tests.support import analytic
from tests.support.tiny_networks import Regressor, TinyNet, digits


def fitness_of(context: Context) -> Fitness:
    training, held_out = split(context.train, 0.2, 0)
    network = make_network(context, NetworkOptions())
    return Fitness(context, network, training, held_out, images=10_000, statistics_images=10_000)


def test_a_classifier_is_judged_by_its_accuracy_on_held_out_images(
    trained: TinyNet, traced: Traced, predictor: Predictor
) -> None:
    data = as_batches(digits(), batch_size=64)
    context = Context(
        model=copy.deepcopy(trained), traced=traced, train=data, predictor=predictor, target_ms=1.0
    )
    fitness = fitness_of(context)
    training, held_out = data.split(0.2, 0)
    expected = copy.deepcopy(trained)
    recalibrate_batch_norm(expected, training, batches=len(training))
    assert fitness.is_quality
    full = [group.width for group in traced.space.groups]
    assert fitness(full) == pytest.approx(accuracy(expected, held_out))
    assert fitness([choices[0] for choices in predictor.lattice]) < fitness(full)


@pytest.mark.parametrize(
    ("metric", "is_quality"), [(None, False), (lambda: _OfMap(Determination()), True)]
)
def test_a_network_without_classes_is_judged_by_its_metric_or_its_loss(
    metric: Any, is_quality: bool
) -> None:
    def loss(outputs: dict[str, Any], target: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(outputs["mean"], target)

    model = Regressor()
    inputs = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    traced = make_space(model, inputs[:2])
    with torch.no_grad():
        target = model(inputs)["mean"]
    context = Context(
        model=model,
        traced=traced,
        train=as_batches((inputs, target)),
        predictor=analytic.predictor(traced.space),
        target_ms=1.0,
        training=Training(recipe=Recipe(loss=loss, metric=metric)),
    )
    fitness = fitness_of(context)
    assert fitness.is_quality == is_quality
    full = [group.width for group in traced.space.groups]
    assert fitness(full) == pytest.approx(100 if is_quality else 0, abs=1e-4)
    assert fitness([4] * len(full)) < fitness(full)


class _OfMap:
    """A metric of the outputs' mean."""

    def __init__(self, inner: Determination) -> None:
        self._inner = inner

    def update(self, outputs: Any, target: Any) -> None:
        self._inner.update(outputs["mean"], target)

    def value(self) -> float:
        return self._inner.value()


def test_a_loader_that_cannot_be_split_is_used_whole() -> None:
    class Augmented(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            image, label = super().__getitem__(index)
            return image + torch.rand(()), label

    images, labels = digits()
    plain = TensorDataset(images.float(), labels)
    one, other = split(as_batches(DataLoader(plain, batch_size=64)), 0.25, 0)
    assert len(one) > 2 * len(other)
    data = as_batches(DataLoader(Augmented(images.float(), labels), batch_size=64))
    assert split(data, 0.25, 0) == (data, data)
