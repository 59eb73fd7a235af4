"""Losses of training: the recipe's loss and distillation from the dense network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.training.config import Training


@dataclass(frozen=True, kw_only=True)
class TrainingLoss:
    """The recipe's loss, combined with distillation if there is a teacher (Hinton et al., 2015)."""

    training: Training
    #: Dense network in eval mode.
    teacher: nn.Module | None = None

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Loss [] of a batch: ``(1 - d) L + d t^2 KL(teacher || student)``, or L alone."""
        outputs = model(x)
        loss = self.training.recipe.loss(outputs, y)
        if not self._distils(outputs):
            return loss
        share = self.training.distillation
        return (1 - share) * loss + share * self._distance(outputs, x)

    def _distils(self, outputs: Any) -> bool:
        return self.teacher is not None and self.training.distillation > 0 and has_classes(outputs)

    def _distance(self, outputs: Tensor, x: Tensor) -> Tensor:
        assert self.teacher is not None
        with torch.no_grad():
            wanted = self.teacher(x)
        return distillation_loss(outputs, wanted, self.training.temperature)


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


def has_classes(outputs: Any) -> bool:
    """Whether outputs are [B, classes, ...]; others have no distribution to distil."""
    return torch.is_tensor(outputs) and outputs.dim() > 1 and outputs.shape[1] > 1


def softening(training: Training) -> float:
    """Temperature of the softmax when outputs are compared."""
    return training.temperature if training.distillation else 1.0


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence [] of the softened outputs [B, classes], times t^2 so that the scale of its
    gradient does not depend on t.
    """
    return temperature**2 * F.kl_div(
        F.log_softmax(student.float() / temperature, dim=1),
        F.log_softmax(teacher.float() / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
