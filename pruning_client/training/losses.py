"""Losses of training: the recipe's loss and distillation from the dense network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from pruning_client.data.batch import Batch, describe
from pruning_client.errors import UsageError
from pruning_client.training.config import Training
from pruning_client.training.cross_entropy import is_cross_entropy
from pruning_client.training.outputs import (
    are_class_scores,
    class_distance,
    output_distance,
    relative_distance,
    softening,
)


@dataclass(frozen=True, kw_only=True)
class TrainingLoss:
    """The recipe's loss, combined with distillation if there is a teacher (Hinton et al., 2015)."""

    training: Training
    #: Dense network in eval mode.
    teacher: nn.Module | None = None

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Loss [] of a batch: ``(1 - d) L + d D``, with D the distance of the outputs from the
        teacher's, or L alone.

        D is `output_distance`; for outputs that are no class scores it is multiplied by what the
        task's loss rises by for each unit of it, so that it has the scale of L.

        Raises:
            UsageError: The recipe's loss returns no loss.
        """
        return self.of(model(*batch.inputs), batch, self.wanted(batch))

    def wanted(self, batch: Batch) -> Any:
        """Outputs of the teacher for a batch; None without distillation."""
        if self.teacher is None or self.training.distillation <= 0:
            return None
        with torch.no_grad():
            return self.teacher(*batch.inputs)

    def of(self, outputs: Any, batch: Batch, wanted: Any, *, labelled: bool = True) -> Tensor:
        """Loss [] of a network's outputs for a batch, computed in float32.

        Args:
            wanted: Outputs of the teacher, or None.
            labelled: Whether the targets are those of the inputs. Where they are not, class scores
                are compared with the teacher's alone: the loss is ``d D``.
        """
        outputs, wanted = _in_float32(outputs), _in_float32(wanted)
        if not labelled:
            temperature = softening(self.training)
            return self.training.distillation * class_distance(outputs, wanted, temperature)
        loss = self._task(outputs, batch.target)
        distance = None if wanted is None else self._distance(outputs, wanted, batch.target)
        if distance is None:
            return loss
        share = self.training.distillation
        return (1 - share) * loss + share * distance

    def _task(self, outputs: Any, target: Any) -> Tensor:
        own = self.training.recipe.loss
        is_column = torch.is_tensor(target) and torch.is_tensor(outputs)
        if is_column and is_cross_entropy(own) and not target.is_floating_point():
            # labels [B, 1, ...] are as usual as labels [B, ...]
            target = target.squeeze(1) if target.dim() == outputs.dim() else target
        loss = own(outputs, target)
        if not torch.is_tensor(loss) or loss.numel() != 1:
            raise UsageError(
                f"The recipe's loss returns {describe(loss)}.",
                "Return one number, a tensor [], such as the mean or the sum of its parts.",
            )
        return loss.reshape(())

    def _distance(self, outputs: Any, wanted: Any, target: Any) -> Tensor | None:
        distance = output_distance(self.training, outputs, wanted, target)
        if distance is None or are_class_scores(self.training.recipe, outputs, target):
            return distance
        unit = self._unit(wanted, target)
        return None if unit is None else unit * distance

    def _unit(self, wanted: Any, target: Any) -> float | None:
        """What the task's loss rises by for each unit of `relative_distance`: found by giving each
        sample the teacher's outputs for another one. None where that does not make it rise.

        Without it distillation would drown the task where targets have a small scale.
        """
        others = pytree.tree_map_only(Tensor, _moved, wanted)
        with torch.no_grad():
            distance = float(relative_distance(others, wanted))
            if distance <= 0:
                return None
            try:
                rise = float(self._task(others, target)) - float(self._task(wanted, target))
            except Exception:  # noqa: BLE001 a loss may need gradients, or outputs that fit
                return None
        unit = rise / distance
        return unit if math.isfinite(unit) and unit > 0 else None


def _moved(outputs: Tensor) -> Tensor:
    """Outputs [B, ...], each at the place of the next sample."""
    return outputs.roll(1, 0) if outputs.dim() else outputs


def _in_float32(outputs: Any) -> Any:
    """Outputs with tensors of 16 bits as float32: losses need the precision, and users' own may
    convert to NumPy.
    """
    return pytree.tree_map_only(
        Tensor, lambda x: x.float() if x.dtype in (torch.bfloat16, torch.float16) else x, outputs
    )


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
