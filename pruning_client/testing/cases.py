"""Networks, data and predictors that methods are run on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor, nn

from pruning_client.data.batches import Batches
from pruning_client.data.sources import as_batches
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import Progress, silent
from pruning_client.graph.space import Traced, make_space
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context
from pruning_client.testing import networks
from pruning_client.testing.latency import macs_predictor
from pruning_client.training import recipes
from pruning_client.training.config import Training
from pruning_client.training.trainer import finetune

#: Networks by family. All but `regression` give class scores; `regression` gives two numbers.
FAMILIES: Mapping[str, Callable[[], nn.Module]] = {
    "residual": networks.ResidualNet,
    "vgg": networks.Vgg,
    "mobilenet-v2": networks.MobileNetV2,
    "densenet": networks.DenseNet,
    "regression": partial(networks.ResidualNet, outputs=2),
}
_IMAGES = 96
_SIZE = 12
_BATCH = 16
_NOISE = 0.3
#: Training of the dense network.
_EPOCHS = 6
_LR = 0.05


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network with everything that a method is given."""

    #: Dense network in eval mode; `context` copies it.
    model: nn.Module
    traced: Traced
    data: Batches
    predictor: Predictor
    training: Training

    def context(
        self,
        share: float,
        *,
        progress: Progress = silent,
        evaluate: Callable[[nn.Module], float] | None = None,
        journal: Journal | None = None,
        device: str = "cpu",
    ) -> Context:
        """Inputs of a method, with a copy of the network.

        Args:
            share: Budget between the lowest predicted latency (0) and the dense network's (1).
        """
        bounds = self.predictor.sidecar
        return Context(
            model=copy.deepcopy(self.model).to(device),
            traced=self.traced,
            train=self.data,
            predictor=self.predictor,
            target_ms=bounds.lowest_ms + share * (bounds.dense_ms - bounds.lowest_ms),
            training=self.training,
            progress=progress,
            evaluate=evaluate,
            journal=journal or Journal(),
        )


@cache
def make_case(family: str) -> Case:
    """The case of a family, trained for a moment; always the same one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = FAMILIES[family]()
        images, labels = _images()
        is_regression = family == "regression"
        target = _two_numbers(labels) if is_regression else labels
        recipe = recipes.regression() if is_regression else recipes.classification()
        training = Training(precision="float32", batch_size=_BATCH, recipe=recipe)
        data = as_batches((images, target), batch_size=_BATCH)
        finetune(model, data, replace(training, epochs=_EPOCHS, lr=_LR))
    traced = make_space(model, images[:2], minimum=2)
    return Case(
        model=model,
        traced=traced,
        data=data,
        predictor=macs_predictor(traced.space),
        training=training,
    )


def _two_numbers(labels: Tensor) -> Tensor:
    """A point of the unit circle for each label [N, 2]."""
    angles = 2 * torch.pi * labels / networks.CLASSES
    return torch.stack([angles.cos(), angles.sin()], 1)


def _images() -> tuple[Tensor, Tensor]:
    """Images of one pattern for each class with noise, and labels."""
    patterns = torch.randn(networks.CLASSES, 3, _SIZE, _SIZE)
    labels = torch.arange(_IMAGES) % networks.CLASSES
    return patterns[labels] + _NOISE * torch.randn(_IMAGES, 3, _SIZE, _SIZE), labels
