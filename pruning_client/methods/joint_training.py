"""Joint training of weights and gates, whatever the gates are."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pruning_client.execution.journal import Tensors
from pruning_client.methods.base import Context, Selection
from pruning_client.methods.gate_options import GateOptions
from pruning_client.methods.training_run import dense_teacher, pruning_phase, run_training
from pruning_client.training import schedules
from pruning_client.training.batch_norm import train_mode
from pruning_client.training.callback import Callback
from pruning_client.training.hooks import GateTraining
from pruning_client.training.trainer import History


class JointGates(GateTraining, Protocol):
    """Gates that the default loop can train, beside a user's own."""

    def freeze(self) -> Selection:
        """Decide the channels to keep, at widths that meet the target, and freeze the gates."""

    def attached(self) -> contextlib.AbstractContextManager[None]:
        """Gate the network's forward pass while the context is open."""

    def metrics(self) -> dict[str, Any]:
        """Entries of the history for this step; `latency_ms` is among them."""

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors and plain values for a checkpoint."""

    def restore(self, tensors: Tensors, values: dict[str, Any]) -> None:
        """Restore a checkpoint, after the network's weights."""


class GateCallback(Callback):
    """Gates as a callback of the trainer."""

    def __init__(self, gates: JointGates, target_ms: float) -> None:
        self._gates = gates
        self._target_ms = target_ms

    def total_loss(self, loss: Tensor) -> Tensor:
        return loss + self._gates.loss()

    def metrics(self) -> dict[str, Any]:
        return self._gates.metrics()

    def figures(self, metrics: dict[str, Any]) -> dict[str, str]:
        return {"predicted": f"{metrics['latency_ms']:.3f} of {self._target_ms:.3f} ms"}

    def after_step(self) -> None:
        self._gates.step()

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        return self._gates.state()

    def restore(self, tensors: Tensors, values: dict[str, Any]) -> None:
        self._gates.restore(tensors, values)


def train_jointly(context: Context, gates: JointGates, options: GateOptions) -> Selection:
    """Train a network in place together with its gates, which end frozen.

    The network is still dense at the end, in eval mode and without gates.
    """
    teacher = dense_teacher(context)
    with gates.attached():
        history = _train(context, gates, options, teacher)
        selection = gates.freeze()
    context.model.eval()
    return Selection(keep=selection.keep, scores=selection.scores, history=history)


def _train(
    context: Context, gates: JointGates, options: GateOptions, teacher: nn.Module
) -> History:
    """Run the user's own loop, or the default one."""
    own_loop = context.training.recipe.train
    if own_loop is not None:
        train_mode(context.model)
        own_loop(context.model, gates)
        return []
    phase = pruning_phase(
        epochs=options.epochs,
        lr=options.lr,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        schedule=schedules.constant,
    )
    return run_training(context, phase, GateCallback(gates, context.target_ms), teacher)


def selection_state(selection: Selection) -> Tensors:
    """Tensors of a selection for a checkpoint."""
    kept = {f"kept.{g}": torch.from_numpy(keep) for g, keep in enumerate(selection.keep)}
    scores = {f"score.{g}": torch.from_numpy(score) for g, score in enumerate(selection.scores)}
    return kept | scores


def restored_selection(tensors: Tensors, groups: int) -> Selection:
    """The selection of `selection_state`, without its history."""
    keep = [tensors[f"kept.{g}"].numpy() for g in range(groups)]
    return Selection(keep=keep, scores=[tensors[f"score.{g}"].numpy() for g in range(groups)])
