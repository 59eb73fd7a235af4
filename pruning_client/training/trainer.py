"""Training of an ordinary network: fine-tuning with distillation, batch-norm recalibration,
accuracy.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.data.batches import Batches
from pruning_client.execution import distributed
from pruning_client.execution.journal import (
    Journal,
    module_state,
    optimiser_state,
    restore_module,
    restore_optimiser,
)
from pruning_client.execution.progress import Progress, ProgressEvent, silent
from pruning_client.training.config import PrecisionName, Training

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
    """Estimate the statistics of all batch norms anew, as plain means over some batches; nothing
    else changes.

    Removing channels shifts the distributions that the statistics describe: without this step
    accuracy after removal says nothing (docs/design.md, fact 8).
    """
    norms = [
        module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms or batches < 1:
        return
    momenta = [norm.momentum for norm in norms]
    was_training = model.training
    device = _device(model)
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
    model: nn.Module,
    data: Batches,
    training: Training,
    *,
    teacher: nn.Module | None = None,
    progress: Progress = silent,
    phase: str = "fine-tune",
    evaluate: Callable[[nn.Module], float] | None = None,
    journal: Journal | None = None,
    checkpoint: str = "fine-tune",
) -> History:
    """Train a network in place: SGD with Nesterov momentum and a cosine schedule; it ends in eval
    mode.

    With a teacher the loss is ``(1 - d) CE + d t^2 KL(teacher || student)`` at temperature t
    (Hinton et al., 2015).

    Args:
        teacher: the dense network; without it, or with ``distillation`` 0, the loss is the recipe's
            alone.
        evaluate: accuracy in per cent, asked for after each epoch.
        journal: keeps a checkpoint after each epoch, under the name `checkpoint`, and goes on from
            the one it has.

    Returns:
        One entry for each epoch: `phase`, `step`, `loss`, and `accuracy` where it is evaluated.
    """
    recipe = training.recipe
    if recipe.finetune is not None and teacher is not None:
        model.train()
        recipe.finetune(model, teacher)
        model.eval()
        return []
    trainer = _Trainer(model, training, teacher, len(data))
    history, first = trainer.resume(journal, checkpoint)
    for epoch in range(first, training.epochs):
        model.train()
        losses = 0.0
        for number, (images, labels) in enumerate(data.shuffled(training.seed * 7919 + epoch), 1):
            losses += trainer.step(images, labels)
            figures = {"loss": f"{losses / number:.3f}"}
            progress(
                ProgressEvent(
                    phase=phase,
                    done=trainer.done,
                    total=trainer.total,
                    unit="batches",
                    figures=figures,
                )
            )
        distributed.average_buffers(model)
        entry = {"phase": phase, "step": trainer.done, "loss": losses / len(data)}
        history.append(entry if evaluate is None else {**entry, "accuracy": evaluate(model)})
        if journal is not None:
            trainer.save(journal, checkpoint, history)
    model.eval()
    return history


@dataclass(frozen=True, kw_only=True)
class TrainingLoss:
    """What training minimises: the recipe's loss and, with a teacher, the distance from its
    answers.
    """

    config: Training
    #: the dense network in eval mode
    teacher: nn.Module | None

    def loss(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """``(1 - d) L + d t^2 KL(teacher || student)`` [] of a batch, or L alone."""
        answers = model(x)
        loss = self.config.recipe.loss(answers, y)
        if self.teacher is None or not self.config.distillation or not has_classes(answers):
            return loss
        with torch.no_grad():
            wanted = self.teacher(x)
        share = self.config.distillation
        return (1 - share) * loss + share * distillation_loss(
            answers, wanted, self.config.temperature
        )


class _Trainer:
    """Steps of ordinary training, and their checkpoints."""

    def __init__(
        self,
        model: nn.Module,
        config: Training,
        teacher: nn.Module | None,
        per_epoch: int,
    ) -> None:
        recipe = config.recipe
        self._model = model
        self._config = config
        self._task = TrainingLoss(
            config=config, teacher=teacher.eval() if teacher is not None else None
        )
        self.total = config.epochs * per_epoch
        self.done = 0
        self._optimiser = (
            sgd(model, config.lr, config.momentum, config.weight_decay)
            if recipe.optimiser is None
            else recipe.optimiser(model)
        )
        self._schedule = recipe.schedule and recipe.schedule(self._optimiser, max(1, self.total))
        self._own_rate = recipe.optimiser is None and recipe.schedule is None

    def step(self, images: Tensor, labels: Tensor) -> float:
        """One batch; returns its loss."""
        if self._own_rate:
            set_lr(self._optimiser, cosine(self._config.lr, self.done, self.total))
        device = _device(self._model)
        x, y, weight = distributed.shard(images.to(device), labels.to(device))
        with autocast(self._model, self._config.precision):
            loss = self._task.loss(self._model, x, y)
        self._optimiser.zero_grad(set_to_none=True)
        (weight * loss).backward()  # type: ignore[no-untyped-call]
        distributed.average_gradients(self._model.parameters())
        self._optimiser.step()
        if self._schedule is not None:
            self._schedule.step()
        self.done += 1
        return float(loss.detach())

    def save(self, journal: Journal, name: str, history: History) -> None:
        tensors, values = optimiser_state("optimiser", self._optimiser)
        schedule = self._schedule.state_dict() if self._schedule is not None else None
        kept = {"optimiser": values, "done": self.done, "history": history, "schedule": schedule}
        journal.save(name, tensors | module_state("model", self._model), kept)

    def resume(self, journal: Journal | None, name: str) -> tuple[History, int]:
        """Go on from a checkpoint: the history so far, and the epoch that comes next."""
        found = None if journal is None else journal.load(name)
        if found is None:
            return [], 0
        tensors, values = found
        restore_module("model", self._model, tensors)
        restore_optimiser("optimiser", self._optimiser, tensors, values["optimiser"])
        if self._schedule is not None:
            self._schedule.load_state_dict(values["schedule"])
        self.done = values["done"]
        return values["history"], len(values["history"])


def has_classes(answers: Any) -> bool:
    """Whether a network's answers are [B, classes, ...]: others have no distribution to imitate."""
    return torch.is_tensor(answers) and answers.dim() > 1 and answers.shape[1] > 1


def softening(config: Training) -> float:
    """The temperature of the answers that are compared."""
    return config.temperature if config.distillation else 1.0


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence [] of the softened answers [B, classes], scaled so that its gradient does not
    depend on t.
    """
    student = student.float()
    teacher = teacher.float()
    return temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def sgd(model: nn.Module, lr: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with Nesterov momentum; no decay on vectors (biases, scales of norms)."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)


def level(lr: float, done: int, total: int) -> float:
    """Learning rate after `done` of `total` steps: a short warm-up, then the same to the end."""
    return lr * min(1.0, (done + 1) / _warm(total))


def cosine(lr: float, done: int, total: int) -> float:
    """Learning rate after `done` of `total` steps: a short warm-up, then half a cosine down to a
    hundredth.
    """
    past = max(0, done - _warm(total)) / max(1, total - _warm(total))
    return level(lr, done, total) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * past)))


def _warm(total: int) -> int:
    return max(1, total // 20)


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr


def autocast(model: nn.Module, precision: PrecisionName) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision for the forward pass: bfloat16, by default on GPUs that compute with it."""
    device = _device(model).type
    wanted = precision == "bfloat16" or (
        precision == "auto" and device == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.autocast(device, torch.bfloat16) if wanted else contextlib.nullcontext()


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
