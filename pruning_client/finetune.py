"""Training of an ordinary network: fine-tuning with distillation, batch-norm recalibration, accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.config import FinetuneConfig
from pruning_client.data import Batches
from pruning_client.progress import Progress, Step, silent

History = list[dict[str, Any]]


def accuracy(model: nn.Module, data: Batches) -> float:
    """Share of images whose label is the model's first choice, per cent."""
    device = _device(model)
    right = total = 0
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for images, labels in data.ordered():
            right += int((model(images.to(device)).argmax(1).cpu() == labels).sum())
            total += len(labels)
    model.train(was_training)
    return 100.0 * right / max(1, total)


def recalibrate_batch_norm(model: nn.Module, data: Batches, *, batches: int, seed: int = 0) -> None:
    """Estimate the statistics of all batch norms anew, as plain means over some batches; nothing else changes.

    Removing channels shifts the distributions that the statistics describe: without this step accuracy after removal
    says nothing (docs/design.md, fact 8).
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms or batches < 1:
        return
    momenta = [norm.momentum for norm in norms]
    was_training, device = model.training, _device(model)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
    model.eval()
    for norm in norms:
        norm.train()
    with torch.no_grad():
        for images, _ in islice(data.shuffled(seed), batches):
            model(images.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)


def finetune(
    model: nn.Module, data: Batches, config: FinetuneConfig, *, teacher: nn.Module | None = None, seed: int = 0,
    progress: Progress = silent, phase: str = "fine-tune", evaluate: Callable[[nn.Module], float] | None = None,
) -> History:  # fmt: skip
    """Train a network in place: SGD with Nesterov momentum and a cosine schedule; it ends in eval mode.

    With a teacher the loss is ``(1 - d) CE + d t^2 KL(teacher || student)`` at temperature t (Hinton et al., 2015).

    Args:
        teacher: the dense network; without it, or with ``distillation`` 0, the loss is cross-entropy.
        evaluate: accuracy in per cent, asked for after each epoch.

    Returns:
        One entry for each epoch: `phase`, `step`, `loss`, and `accuracy` where it is evaluated.
    """
    total, done, history = config.epochs * len(data), 0, History()
    optimiser = sgd(model, config.lr, config.momentum, config.weight_decay)
    share = config.distillation if teacher is not None else 0.0
    if teacher is not None:
        teacher.eval()
    device = _device(model)
    for epoch in range(config.epochs):
        model.train()
        losses = 0.0
        for images, labels in data.shuffled(seed * 7919 + epoch):
            set_lr(optimiser, cosine(config.lr, done, total))
            x, y = images.to(device), labels.to(device)
            answers = model(x)
            loss = F.cross_entropy(answers, y)
            if teacher is not None and share > 0:
                with torch.no_grad():
                    wanted = teacher(x)
                loss = (1 - share) * loss + share * distillation_loss(answers, wanted, config.temperature)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            done, losses = done + 1, losses + float(loss.detach())
            figures = {"loss": f"{losses / (done - epoch * len(data)):.3f}"}
            progress(Step(phase=phase, done=done, total=total, unit="batches", figures=figures))
        entry = {"phase": phase, "step": done, "loss": losses / len(data)}
        history.append(entry if evaluate is None else {**entry, "accuracy": evaluate(model)})
    model.eval()
    return history


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence [] of the softened answers [B, classes], scaled so that its gradient does not depend on t."""
    return temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, dim=1), F.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean", log_target=True,
    )  # fmt: skip


def sgd(model: nn.Module, lr: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with Nesterov momentum; no decay on vectors (biases, scales of norms)."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)


def cosine(lr: float, done: int, total: int, floor: float = 0.01) -> float:
    """Learning rate after `done` of `total` steps: a short warm-up, then half a cosine down to `floor` of it."""
    warm = max(1, total // 20)
    if done < warm:
        return lr * (done + 1) / warm
    return lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1, total - warm))))


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
