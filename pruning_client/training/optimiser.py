"""Optimisers of training."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, Optimizer

from pruning_client.training.config import Training
from pruning_client.training.phase import Phase


def optimiser_of(model: nn.Module, training: Training, phase: Phase, rate: float) -> Optimizer:
    """The recipe's optimiser, by default SGD at a peak rate."""
    if training.recipe.optimiser is not None:
        return training.recipe.optimiser(model)
    return sgd(model, rate, phase.momentum, phase.weight_decay)


def sgd(model: nn.Module, lr: float, momentum: float, weight_decay: float) -> SGD:
    """SGD with Nesterov momentum, without weight decay on vectors (biases, scales of norms)."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
