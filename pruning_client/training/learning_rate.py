"""A learning rate from the network's own scale: how far its loss falls along the gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from pruning_client.data.batch import Batch
from pruning_client.data.batches import Batches
from pruning_client.execution.copies import copied
from pruning_client.training.batch_norm import train_mode
from pruning_client.training.config import Training
from pruning_client.training.losses import TrainingLoss

#: Number of batches that the gradient is the mean of, and on which the loss is evaluated.
_BATCHES = 2
#: Longest step, relative to the norm of the weights, and the number of times that it is halved.
_LONGEST = 0.5
_HALVINGS = 14
#: Rate of SGD with momentum m, as a share of (1 - m) times the step along the gradient with the
#: lowest loss.
_SHARE = 3.0
#: Bounds of the rate. The gradient of a trained network is mostly noise, along which far too long a
#: step may have the lowest loss.
_LOWEST, _HIGHEST = 1e-4, 0.01


def automatic_rate(
    model: nn.Module,
    data: Batches,
    training: Training,
    *,
    momentum: float,
    teacher: nn.Module | None = None,
) -> float:
    """A peak learning rate for SGD, found by one gradient and a dozen forward passes [ours].

    The loss is evaluated along its own gradient, for steps that are halved from half the norm of
    the weights on. The step with the lowest loss is the scale on which the network's loss curves,
    whatever its depth, normalisation and loss; momentum lengthens the steps of SGD by 1 / (1 - m).

    Args:
        model: Network to train; it is copied, not changed.
        teacher: Dense network in eval mode, for distillation.
    """
    twin = copied(model)
    train_mode(twin)
    with torch.random.fork_rng(devices=[]):
        batches = list(islice(data.shuffled(training.seed), _BATCHES))
        step = _Line(twin, batches, training, teacher).best_step()
    return min(max(_SHARE * (1 - momentum) * step, _LOWEST), _HIGHEST)


class _Line:
    """The loss of a network along its gradient."""

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        training: Training,
        teacher: nn.Module | None,
    ) -> None:
        self._model = model
        device = next(model.parameters()).device
        self._batches = [
            part for batch in batches for part in batch.to(device).parts(training.micro_batch)
        ]
        self._loss = TrainingLoss(training=training, teacher=teacher)
        self._weights = [p for p in model.parameters() if p.requires_grad]

    def best_step(self) -> float:
        """Length of the step, in units of the gradient, with the lowest loss."""
        gradient = self._gradient()
        start = [weight.detach().clone() for weight in self._weights]
        size = _norm(gradient)
        if not math.isfinite(size) or size == 0:
            return 0.0
        steps = [_LONGEST * _norm(start) / size / 2**halving for halving in range(_HALVINGS)]
        losses = [self._at(start, gradient, step) for step in steps]
        best: float = min(zip(losses, steps, strict=True))[1]
        return best

    def _gradient(self) -> list[Tensor]:
        """Mean gradient of the loss in each weight; nothing else gets one, such as gates."""
        total = [torch.zeros_like(weight) for weight in self._weights]
        for batch in self._batches:
            loss = self._loss(self._model, batch) / len(self._batches)
            found = torch.autograd.grad(loss, self._weights, allow_unused=True)
            for sum_, part in zip(total, found, strict=True):
                if part is not None:
                    sum_ += part
        return total

    @torch.no_grad()
    def _at(self, start: Sequence[Tensor], gradient: Sequence[Tensor], step: float) -> float:
        """Loss after a step down the gradient; infinite where it is not finite."""
        for weight, begin, slope in zip(self._weights, start, gradient, strict=True):
            weight.copy_(begin - step * slope)
        losses = [float(self._loss(self._model, batch)) for batch in self._batches]
        return sum(losses) if all(map(math.isfinite, losses)) else math.inf


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack([tensor.norm() for tensor in tensors]).norm())
