"""Trainer of dense, gated and pruned networks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from pruning_client.data.batch import Batch
from pruning_client.data.batches import Batches
from pruning_client.errors import TrainingFailed
from pruning_client.execution import distributed
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import Progress, ProgressEvent, silent
from pruning_client.training import schedules
from pruning_client.training.batch_norm import statistics_kept, train_mode
from pruning_client.training.callback import Callback
from pruning_client.training.checkpoint import (
    module_state,
    optimiser_state,
    restore_module,
    restore_optimiser,
)
from pruning_client.training.config import Training
from pruning_client.training.failures import explained
from pruning_client.training.learning_rate import automatic_rate
from pruning_client.training.losses import RunningLoss, TrainingLoss
from pruning_client.training.mixing import can_be_mixed, mixed
from pruning_client.training.optimiser import optimiser_of
from pruning_client.training.phase import Phase
from pruning_client.training.precision import Computed, autocast, choose

#: Entries with `phase`, `step`, `loss`, the callback's metrics and `accuracy`.
History = list[dict[str, Any]]
#: Quality of a network, per cent.
Evaluate = Callable[[nn.Module], float]


class Trainer:
    """Training loop with schedule, history and checkpoints.

    A checkpoint is saved in the journal after each epoch. A trainer whose journal has a checkpoint
    continues from it, to bit-identical weights.

    Args:
        model: Network to train in place; left in eval mode.
        teacher: Dense network in eval mode, for distillation.
        callback: Callback of every step.
        evaluate: Quality of the network in per cent, evaluated after each epoch.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Batches,
        training: Training,
        phase: Phase,
        *,
        teacher: nn.Module | None = None,
        callback: Callback | None = None,
        progress: Progress = silent,
        evaluate: Evaluate | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._model = model
        self._data = data
        self._training = training
        self._phase = phase
        self._loss = TrainingLoss(training=training, teacher=teacher)
        self._callback = callback or Callback()
        self._progress = progress
        self._evaluate = evaluate
        self._journal = journal or Journal()
        self._total = phase.epochs * len(data)
        self._rate = self._chosen_rate(teacher)
        self._optimiser = optimiser_of(model, training, phase, self._rate)
        self._scheduler = schedules.scheduler(
            training.recipe, phase.schedule, self._optimiser, self._total
        )
        self._precision: Computed = "float32"
        #: Whether the batches of the present epoch are mixed.
        self._mixes = False
        self._running = RunningLoss(phase.loss_weight)
        self._clock = _Clock()
        self._metrics: dict[str, Any] = {}
        self._history: History = []
        self._done = 0
        #: Number of epochs that have ended: a loader may yield fewer batches than it says.
        self._epochs = 0

    def run(self) -> History:
        """Train the remaining epochs, and return the history of all."""
        self._precision = self._chosen_precision()
        can_mix = self._phase.mixes and self._can_mix()
        for epoch in range(self._resume(), self._phase.epochs):
            train_mode(self._model)
            self._mixes = can_mix and epoch % 2 == 1
            self._running.start_epoch()
            self._clock.start()
            for batch in self._batches(epoch):
                self._step(batch)
            self._end_epoch()
        self._model.eval()
        return self._history

    def _can_mix(self) -> bool:
        teacher = self._loss.teacher
        if teacher is None or not self._training.distillation or not self._total:
            return False
        batch = next(self._batches(0)).first(2).to(device_of(self._model))
        return can_be_mixed(self._model, teacher, batch, self._training.recipe)

    def _chosen_rate(self, teacher: nn.Module | None) -> float:
        """The same for a training that is continued, and in every process."""
        phase = self._phase
        is_own = self._training.recipe.optimiser is not None
        if phase.lr is not None or is_own or not self._total:
            return (phase.lr or 0.0) * phase.lr_share
        found = self._journal.value(
            f"rate of {phase.checkpoint}",
            float,
            lambda: automatic_rate(
                self._model, self._data, self._training, momentum=phase.momentum, teacher=teacher
            ),
        )
        return found * phase.lr_share

    def _chosen_precision(self) -> Computed:
        """The same for a training that is continued."""
        wanted = self._training.precision
        return self._journal.value(
            f"precision of {self._phase.checkpoint}",
            str,
            lambda: choose(wanted, self._model, self._tried, steps=self._total),
        )

    def _tried(self, model: nn.Module, precision: Computed) -> None:
        """Forward and backward pass of the first batch; nothing but the model gets a gradient, such
        as gates, which are the same for every try.
        """
        batch = next(self._batches(0)).to(device_of(model))
        train_mode(model)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        for piece in batch.parts(self._training.micro_batch):
            with autocast(model, precision):
                outputs, wanted = model(*piece.inputs), self._loss.wanted(piece)
            torch.autograd.grad(self._loss.of(outputs, piece, wanted), weights, allow_unused=True)

    def _batches(self, epoch: int) -> Iterator[Batch]:
        seed = self._training.seed * self._phase.order + epoch
        return islice(self._data.shuffled(seed), len(self._data))

    def _step(self, batch: Batch) -> None:
        mine, weight = distributed.share(len(batch))
        own = batch.part(mine).to(device_of(self._model))
        if self._mixes:
            own = mixed(own, self._training.seed * self._phase.order + self._done)
        for _ in range(self._callback.further_passes):
            self._look(own)
        self._optimiser.zero_grad(set_to_none=True)
        self._callback.before_pass()
        loss = self._backward(own, weight)
        self._callback.after_pass()
        self._metrics = self._callback.metrics()
        self._descend()
        self._callback.after_step()
        self._done += 1
        self._clock.add(len(batch))
        self._running.add(loss)
        self._report()

    def _look(self, batch: Batch) -> None:
        """A forward pass for the callback alone."""
        self._callback.before_pass()
        device = device_of(self._model)
        rng = torch.random.fork_rng([device] if device.type == "cuda" else [])
        with torch.no_grad(), rng, statistics_kept(self._model):
            for piece in batch.parts(self._training.micro_batch):
                with autocast(self._model, self._precision):
                    outputs = self._model(*piece.inputs)
                self._callback.observe(outputs, piece.target)
        self._callback.after_pass()

    def _backward(self, batch: Batch, weight: float) -> float:
        """Add the gradients of a batch, computed in pieces of `micro_batch` samples, and return its
        mean loss.
        """
        pieces = batch.parts(self._training.micro_batch)
        mean = 0.0
        for number, piece in enumerate(pieces, 1):
            share = len(piece) / max(1, len(batch))
            with explained(self._place, piece):
                with autocast(self._model, self._precision):
                    outputs = self._model(*piece.inputs)
                    wanted = self._loss.wanted(piece)
                loss = self._loss.of(outputs, piece, wanted, labelled=not self._mixes)
            self._callback.observe(outputs, piece.target)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise self._not_finite(value)
            total = weight * share * loss
            if number == len(pieces):
                total = self._callback.total_loss(total)
            # gates are shared by the pieces
            total.backward(retain_graph=number < len(pieces))  # type: ignore[no-untyped-call]
            mean += share * value
            # the activations of one piece at a time
            del outputs, wanted, loss, total
        return mean

    @property
    def _place(self) -> str:
        """The step that is being taken, for messages."""
        return f"step {self._done + 1} of {self._total} in {self._phase.name!r}"

    def _not_finite(self, loss: float) -> TrainingFailed:
        return TrainingFailed(
            f"The loss is {loss} at {self._place}; the mean before it was "
            f"{self._running.value:.4g}.",
            "Lower the learning rate (`Training(lr=...)`), and look for values that are not finite "
            "in the data and for a loss that sums where it should take the mean.",
        )

    def _descend(self) -> None:
        distributed.average_gradients(self._model.parameters())
        self._optimiser.step()
        self._scheduler.step()

    def _report(self) -> None:
        every = self._phase.report_every
        ends_epoch = self._done % len(self._data) == 0
        entries = []
        if every is not None and self._done % every == 0 and not ends_epoch:
            entries = [self._entry()]
        self._history += entries
        self._tell(entries, self._figures())

    def _tell(self, entries: History, figures: dict[str, str]) -> None:
        self._progress(
            ProgressEvent(
                phase=self._phase.name,
                done=self._done,
                total=self._total,
                unit="batches",
                figures=figures,
                entries=entries,
            )
        )

    def _figures(self) -> dict[str, str]:
        own = {"loss": f"{self._running.value:.3f}", "images/s": f"{self._clock.rate:.0f}"}
        if self._training.recipe.optimiser is None:
            own["rate"] = f"{self._rate:.2g}"
        return own | self._callback.figures(self._metrics)

    def _entry(self) -> dict[str, Any]:
        # another loss, which is many times as high
        loss = "mixed_loss" if self._mixes else "loss"
        own = {"phase": self._phase.name, "step": self._done, loss: self._running.value}
        if self._training.recipe.optimiser is None:
            own["lr"] = self._rate
        return own | self._metrics

    def _end_epoch(self) -> None:
        self._epochs += 1
        distributed.average_buffers(self._model)
        entry = self._entry()
        if self._evaluate is not None:
            entry["accuracy"] = self._evaluate(self._model)
        self._history.append(entry)
        self._tell([entry], self._figures())
        self._save()

    def _save(self) -> None:
        tensors, optimiser = optimiser_state("optimiser", self._optimiser)
        more, callback = self._callback.state()
        values = {
            "done": self._done,
            "epochs": self._epochs,
            "history": self._history,
            "running": self._running.state(),
            "optimiser": optimiser,
            "scheduler": self._scheduler.state_dict(),
            "callback": callback,
        }
        model = module_state("model", self._model)
        self._journal.save(self._phase.checkpoint, tensors | more | model, values)

    def _resume(self) -> int:
        """Restore the checkpoint, if there is one, and return the next epoch."""
        found = self._journal.load(self._phase.checkpoint)
        if found is not None:
            self._restore(*found)
            self._tell(self._history, {})
        return self._epochs

    def _restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        restore_module("model", self._model, tensors)
        restore_optimiser("optimiser", self._optimiser, tensors, values["optimiser"])
        self._scheduler.load_state_dict(values["scheduler"])
        self._running.restore(values["running"])
        self._callback.restore(tensors, values["callback"])
        self._done = values["done"]
        self._epochs = values["epochs"]
        self._history = values["history"]


def finetune(
    model: nn.Module,
    data: Batches,
    training: Training,
    *,
    teacher: nn.Module | None = None,
    progress: Progress = silent,
    phase: str = "fine-tune",
    evaluate: Evaluate | None = None,
    journal: Journal | None = None,
    checkpoint: str = "fine-tune",
    lr_share: float = 1.0,
) -> History:
    """Train a network in place by SGD with Nesterov momentum and a cosine schedule.

    With a teacher the loss is ``(1 - d) L + d D``: D is ``t^2 KL(teacher || student)`` at
    temperature t for class scores (Hinton et al., 2015), and the relative squared distance for
    other outputs. The network is left in eval mode.

    Args:
        training: Settings with the user's recipe, whose `finetune` replaces this whole loop.
        teacher: Dense network. Without it, or with ``distillation`` 0, only the recipe's loss is
            used.
        evaluate: Quality of the network in per cent, evaluated after each epoch.
        journal: Store of a checkpoint after each epoch, under the name `checkpoint`; training
            continues from a checkpoint that is there.
        lr_share: Factor of the learning rate, given or automatic.

    Returns:
        One entry per epoch: `phase`, `step`, `loss` or, on mixed images, `mixed_loss`, `lr` (the
        peak rate, unless the optimiser is the user's own), and `accuracy` if it is evaluated.

    Raises:
        TrainingFailed: A step fails, or its loss is not finite.
    """
    if training.recipe.finetune is not None and teacher is not None:
        train_mode(model)
        training.recipe.finetune(model, teacher)
        model.eval()
        return []
    return Trainer(
        model,
        data,
        training,
        _fine_tuning(training, phase, checkpoint, lr_share),
        teacher=None if teacher is None else teacher.eval(),
        progress=progress,
        evaluate=evaluate,
        journal=journal,
    ).run()


def _fine_tuning(training: Training, name: str, checkpoint: str, lr_share: float) -> Phase:
    return Phase(
        name=name,
        checkpoint=checkpoint,
        epochs=training.finetune_epochs,
        mixes=bool(training.mixing),
        lr=training.lr,
        lr_share=lr_share,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )


class _Clock:
    """Samples per second in the present epoch."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._begun = time.monotonic()
        self._samples = 0

    def add(self, samples: int) -> None:
        self._samples += samples

    @property
    def rate(self) -> float:
        return self._samples / max(time.monotonic() - self._begun, 1e-6)


def device_of(model: nn.Module) -> torch.device:
    """The device of a network's parameters."""
    return next(model.parameters()).device
