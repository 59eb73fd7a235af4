"""Losses of training: the recipe's loss and distillation from the dense network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.data.batch import Batch
from pruning_client.training.config import Training
from pruning_client.training.outputs import output_distance


@dataclass(frozen=True, kw_only=True)
class TrainingLoss:
    """The recipe's loss, combined with distillation if there is a teacher (Hinton et al., 2015)."""

    training: Training
    #: Dense network in eval mode.
    teacher: nn.Module | None = None

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Loss [] of a batch: ``(1 - d) L + d D``, with D the distance of the outputs from the
        teacher's (`output_distance`), or L alone.
        """
        return self.of(model(*batch.inputs), batch)

    def of(self, outputs: Any, batch: Batch) -> Tensor:
        """Loss [] of a network's outputs for a batch."""
        loss = self._task(outputs, batch.target)
        distance = self._distance(outputs, batch)
        if distance is None:
            return loss
        share = self.training.distillation
        return (1 - share) * loss + share * distance

    def _task(self, outputs: Any, target: Any) -> Tensor:
        own = self.training.recipe.loss
        is_column = torch.is_tensor(target) and torch.is_tensor(outputs)
        if own is F.cross_entropy and is_column and not target.is_floating_point():
            # labels [B, 1, ...] are as usual as labels [B, ...]
            target = target.squeeze(1) if target.dim() == outputs.dim() else target
        return own(outputs, target)

    def _distance(self, outputs: Any, batch: Batch) -> Tensor | None:
        if self.teacher is None or self.training.distillation <= 0:
            return None
        with torch.no_grad():
            wanted = self.teacher(*batch.inputs)
        return output_distance(self.training, outputs, wanted, batch.target)


class RunningLoss:
    """Mean loss of the present epoch, or exponential mean over all epochs.

    Args:
        weight: Weight of the latest loss in the exponential mean; None for the mean of each epoch.
    """

    def __init__(self, weight: float | None) -> None:
        self._weight = weight
        self._total = 0.0
        self._count = 0
        self._smoothed: float | None = None

    @property
    def value(self) -> float:
        if self._weight is None or self._smoothed is None:
            return self._total / max(1, self._count)
        return self._smoothed

    def start_epoch(self) -> None:
        self._total = 0.0
        self._count = 0

    def add(self, loss: float) -> None:
        self._total += loss
        self._count += 1
        if self._weight is not None:
            self._smoothed = self._smooth(loss, self._weight)

    def _smooth(self, loss: float, weight: float) -> float:
        if self._smoothed is None:
            return loss
        return (1 - weight) * self._smoothed + weight * loss

    def state(self) -> float | None:
        """Plain value for a checkpoint at the end of an epoch."""
        return self._smoothed

    def restore(self, state: float | None) -> None:
        self._smoothed = state
