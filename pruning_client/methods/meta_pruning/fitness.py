"""Fitness of candidates: quality of the really smaller network with generated weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from pruning_client.data.batch import Batch
from pruning_client.data.batches import Batches
from pruning_client.errors import DataError
from pruning_client.execution.copies import copied
from pruning_client.execution.modes import evaluating
from pruning_client.graph.surgery import cutter
from pruning_client.methods.base import Context
from pruning_client.methods.meta_pruning.pruning_net import PruningNet
from pruning_client.training.batch_norm import estimate_statistics, train_mode
from pruning_client.training.config import Training
from pruning_client.training.hooks import Metric
from pruning_client.training.losses import TrainingLoss
from pruning_client.training.metrics import Accuracy
from pruning_client.training.outputs import class_labels

#: Fitness of a network whose quality is not finite.
_WORST = -1e30


class Fitness:
    """Quality of candidates on held-out training images, with generated weights.

    Each candidate is cut to its widths, its batch norms are re-estimated on training images, and it
    is evaluated: by the recipe's metric, by top-1 accuracy, or by minus the recipe's loss where the
    recipe has neither a metric nor class labels.

    Attributes:
        is_quality: Whether fitness is a quality in per cent, not minus a loss.

    Args:
        training: Training images.
        held_out: Images that the PruningNet is not trained on.
        images: Number of held-out images to evaluate on.
        statistics_images: Number of training images to re-estimate batch norms on.

    Raises:
        DataError: There are no images, or outputs and labels do not fit the metric.
        SurgeryError: The network cannot be made smaller.
    """

    def __init__(
        self,
        context: Context,
        network: PruningNet,
        training: Batches,
        held_out: Batches,
        *,
        images: int,
        statistics_images: int,
    ) -> None:
        self._network = network
        self._traced = context.traced
        self._training = context.training
        device = next(context.model.parameters()).device
        shuffled = training.shuffled(context.training.seed)
        self._statistics = _first_images(shuffled, statistics_images, device)
        self._images = _first_images(held_out.ordered(), images, device)
        narrowest = network.channels([choices[0] for choices in context.predictor.lattice])
        self._whole = copied(context.model).eval()
        self._cut = cutter(context.model, context.traced, narrowest)
        self._metric = self._find_metric()
        self.is_quality = self._metric is not None
        # a metric that does not fit the outputs fails here, before any training
        self._judge(self._whole)

    def __call__(self, widths: Sequence[int]) -> float:
        """Fitness of a candidate of widths [G]."""
        self._network.write(widths, self._whole)
        small = self._cut(self._whole, self._traced, self._network.channels(widths))
        estimate_statistics(small, self._statistics)
        found = self._judge(small)
        return found if math.isfinite(found) else _WORST

    def _find_metric(self) -> Callable[[], Metric] | None:
        recipe = self._training.recipe
        if recipe.metric is not None or recipe.evaluate is not None:
            return recipe.metric
        with torch.inference_mode(), evaluating(self._whole):
            outputs = self._whole(*self._images[0].inputs)
        is_tensor = torch.is_tensor(outputs) and outputs.dim() > 1
        is_classifier = is_tensor and class_labels(outputs, self._images[0].target) is not None
        return Accuracy if is_classifier else None

    def _judge(self, model: nn.Module) -> float:
        if self._metric is not None:
            return _quality(model, self._images, self._metric())
        # the loss takes the outputs of training mode, where those of eval mode are others
        if self._traced.training is not None:
            train_mode(model)
        return -_mean_loss(model, self._images, self._training)


def split(data: Batches, share: float, seed: int) -> tuple[Batches, Batches]:
    """Training data and held-out data.

    A loader that cannot be split, such as one that augments its images, is both: candidates are
    then compared on images that the PruningNet is trained on.
    """
    try:
        return data.split(share, seed)
    except DataError:
        return data, data


def _first_images(batches: Iterable[Batch], count: int, device: torch.device) -> list[Batch]:
    """Batches that hold the first `count` images."""
    found: list[Batch] = []
    left = count
    for batch in filter(len, batches):
        found.append(batch.first(left).to(device))
        left -= len(found[-1])
        if left <= 0:
            break
    if not found:
        raise DataError("There are no images to compare candidates on.", "Give more images.")
    return found


@torch.inference_mode()
def _quality(model: nn.Module, batches: Sequence[Batch], metric: Metric) -> float:
    with evaluating(model):
        for batch in batches:
            metric.update(model(*batch.inputs), batch.target)
    return metric.value()


@torch.inference_mode()
def _mean_loss(model: nn.Module, batches: Sequence[Batch], training: Training) -> float:
    loss = TrainingLoss(training=training)
    total = sum(len(batch) * float(loss(model, batch)) for batch in batches)
    return total / sum(len(batch) for batch in batches)
