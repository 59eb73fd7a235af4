"""Joint training of weights and gates under a latency budget."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Floats
from pruning_client.data.batches import images_in
from pruning_client.execution import distributed
from pruning_client.execution.journal import Tensors
from pruning_client.graph.space import Traced
from pruning_client.latency.smoothing import with_secant_gradient
from pruning_client.methods import allocation
from pruning_client.methods.base import Context, Selection, best_channels
from pruning_client.methods.gate_options import GateOptions, WidthGateOptions
from pruning_client.methods.gates import BAND, Gates, GateScores, masks, step
from pruning_client.methods.initial_widths import balanced, initial_scores, initial_widths
from pruning_client.methods.joint_training import (
    restored_selection,
    selection_state,
    train_jointly,
)
from pruning_client.methods.latency_loss import LatencyLoss, prunable_share
from pruning_client.methods.removal_costs import removal_costs
from pruning_client.methods.training_run import check_prunable
from pruning_client.training.checkpoint import (
    module_state,
    optimiser_state,
    restore_module,
    restore_optimiser,
)

#: Weight of the past in the running mean of the task's gradient in the gates.
_MEMORY = 0.9
#: Share of the band that a score can cross until the gates are frozen, unless `gate_lr` is given.
_TRAVEL = 0.25


class TrainedGates:
    """Gates that are trained together with the weights of a network: the `GateTraining` of a user's
    loop and of the default one.

    Before the first step the removal cost of each channel is estimated, and scores are set such
    that the gates start at widths that meet the target and change the outputs least, with the
    channels of lowest cost closed. For the last part of the steps the gates are frozen, at widths
    that meet the target. A loop that ends early freezes them when it ends.

    Attributes:
        steps: Number of steps to take.
        done: Number of steps taken.
        selection: Channels to keep, once the gates are frozen.
        latency_ms: Predicted latency of the present gates, ms.
        widths: Widths of the present gates [G].
    """

    def __init__(self, context: Context, scores: GateScores, options: GateOptions) -> None:
        self.steps = options.epochs * len(context.train)
        self.done = 0
        self.selection: Selection | None = None
        self.latency_ms = 0.0
        self.widths = list[int]()
        self._context = context
        self._scores = scores
        self._frozen_from = max(1, round(self.steps * (1 - options.frozen_share)))
        rate = _TRAVEL * BAND / self._frozen_from if options.gate_lr is None else options.gate_lr
        self._parameters = scores.parameter_groups(rate)
        self._optimiser = torch.optim.Adam(self._parameters, betas=(0.9, 0.99))
        self._latency_loss = LatencyLoss(options, context.target_ms, self._frozen_from)
        self._smooth = with_secant_gradient(context.predictor)
        self._minima = [group.minimum for group in context.traced.space.groups]
        self._gates = Gates(context.model, context.traced)
        self._open = list[Tensor]()
        self._initial_widths, self._removal_costs = self._start(options.epochs)
        like = next(context.model.parameters())
        self._costs = [torch.from_numpy(cost).to(like) for cost in self._removal_costs]
        #: Running mean of the task's gradient in the gates [channels of all groups].
        self._task_gradient = torch.zeros_like(torch.cat(self._costs))

    @property
    def frozen(self) -> bool:
        """Whether the widths are decided."""
        return self.selection is not None

    @property
    def multiplier(self) -> float | None:
        """Multiplier of the loss `dual`; None once the gates are frozen."""
        return None if self.frozen else self._latency_loss.multiplier

    def loss(self) -> Tensor:
        """The gates' term [] of the loss of this step; zero once they are frozen.

        It is the latency term plus the removal costs. The removal cost of a channel enters as a
        secant gradient, the straight line from the loss with the gate open to the loss with the
        gate closed [ours]: the straight-through gradient alone is the tangent at one end, which is
        flat for a trained network. Costs grow as their group shrinks. The latency term is scaled by
        the worth of the open channels to the task, by their costs and the task's recent gradients,
        so that the budget takes effect at any scale of the user's loss.
        """
        if self.frozen:
            return self._open[0].new_zeros(())
        gates = torch.cat(self._open)
        is_open = gates.detach()
        widths = torch.stack([gate.sum() for gate in self._open])
        latency = self._smooth(widths)
        self.widths = [round(width) for width in widths.tolist()]
        self.latency_ms = float(latency.detach())
        costs = self._present_costs(widths.detach())
        worth = float(torch.dot(costs + self._task_gradient.abs(), is_open))
        unit = worth / max(prunable_share(latency, widths), 1e-12)
        return self._latency_loss(latency, unit) + torch.dot(gates, costs * (1 - 2 * is_open))

    def _present_costs(self, widths: Tensor) -> Tensor:
        """Removal costs [channels of all groups] at the present widths [G]."""
        groups = zip(self._costs, self._initial_widths, widths, strict=True)
        return torch.cat([cost * initial / now for cost, initial, now in groups])

    def step(self) -> None:
        """Update the scores from their gradients, and compute the gates of the next step."""
        self.done += 1
        if self.frozen:
            return
        self._descend()
        if self.done >= self._frozen_from:
            self.freeze()
        else:
            self.renew()

    def _descend(self) -> None:
        distributed.average(self._task_gradient)
        distributed.average_gradients([p for group in self._parameters for p in group["params"]])
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    def renew(self) -> None:
        """Compute the gates from the present weights and scores."""
        self._open = open_gates(self._scores(self._context.model), self._minima)
        gates = torch.cat(self._open).clone()
        gates.register_hook(self._remember)  # type: ignore[no-untyped-call]
        self._gates.set(torch.split(gates, [len(gate) for gate in self._open]))

    def _remember(self, gradient: Tensor) -> None:
        """Update the running mean of the task's gradient [channels of all groups]."""
        self._task_gradient = _MEMORY * self._task_gradient + (1 - _MEMORY) * gradient

    def _start(self, epochs: int) -> tuple[list[int], list[Floats]]:
        """Set the scores, and return the initial widths [G] and the removal costs there [G][C].

        Args:
            epochs: Epochs of joint training.
        """
        context = self._context
        in_one = images_in(context.train, context.training.seed)
        images = (epochs + context.training.finetune_epochs) * in_one
        estimated = [cost.double().cpu().numpy() for cost in removal_costs(context)]
        widths = initial_widths(context, estimated, images=images)
        at = torch.tensor(widths, dtype=torch.float32, requires_grad=True)
        (slopes,) = torch.autograd.grad(self._smooth(at), at)
        costs = balanced(estimated, widths, slopes.double().numpy(), context.predictor.lattice)
        self._scores.start(context.model, initial_scores(costs, context.predictor, widths))
        return widths, costs

    def freeze(self) -> Selection:
        """Decide the channels to keep, and freeze the gates.

        The widths are on the lattice, meet the target, and use it fully.
        """
        if self.selection is None:
            self._keep(self._decide())
        assert self.selection is not None
        return self.selection

    def _decide(self) -> Selection:
        """Channels at the widths of the gates, fitted to the lattice and the target."""
        with torch.no_grad():
            raw = [score.double().cpu().numpy() for score in self._scores(self._context.model)]
        widths = [
            max(int((score >= 0).sum()), low) for score, low in zip(raw, self._minima, strict=True)
        ]
        scores = self._ranked_costs(raw)
        predictor = self._context.predictor
        fitted = allocation.fit(
            widths, scores, predictor.latency_ms, predictor.lattice, self._context.target_ms
        )
        return Selection(keep=best_channels(scores, fitted), scores=scores)

    def _ranked_costs(self, raw: Sequence[Floats]) -> list[Floats]:
        """Scores [G][C] in the learnt order, with the values of the removal costs, which grow as
        channels are removed.
        """
        ranks = [score.argsort().argsort() for score in raw]
        costs = [
            np.sort(cost) * initial / np.arange(len(cost), 0, -1)
            for cost, initial in zip(self._removal_costs, self._initial_widths, strict=True)
        ]
        return [cost[rank] for cost, rank in zip(costs, ranks, strict=True)]

    def _keep(self, selection: Selection) -> None:
        self.selection = selection
        sizes = [len(score) for score in selection.scores]
        self._open = masks(selection.keep, sizes, self._context.model)
        self._gates.set(self._open)
        self.widths = selection.widths
        self.latency_ms = self._context.predictor.one_ms(selection.widths)

    def attached(self) -> contextlib.AbstractContextManager[None]:
        """Gate the network's forward pass while the context is open."""
        return self._gates.attached()

    def metrics(self) -> dict[str, Any]:
        """Predicted latency, ms, multiplier until the gates are frozen, and widths [G]."""
        found = {
            "latency_ms": self.latency_ms,
            "multiplier": self.multiplier,
            "widths": self.widths,
        }
        return {name: value for name, value in found.items() if value is not None}

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors and plain values of the gates for a checkpoint."""
        tensors, optimiser = optimiser_state("gate_optimiser", self._optimiser)
        tensors["task_gradient"] = self._task_gradient
        if isinstance(self._scores, nn.Module):
            tensors |= module_state("scores", self._scores)
        if self.selection is not None:
            tensors |= selection_state(self.selection)
        return tensors, {
            "optimiser": optimiser,
            "frozen": self.frozen,
            "done": self.done,
            "multiplier": self._latency_loss.multiplier,
        }

    def restore(self, tensors: Tensors, values: dict[str, Any]) -> None:
        """Restore a checkpoint, after the network's weights."""
        restore_optimiser("gate_optimiser", self._optimiser, tensors, values["optimiser"])
        if isinstance(self._scores, nn.Module):
            restore_module("scores", self._scores, tensors)
        self.done = values["done"]
        self._latency_loss.multiplier = values["multiplier"]
        self._task_gradient = tensors["task_gradient"].to(self._task_gradient)
        if values["frozen"]:
            self._keep(restored_selection(tensors, groups=len(self._minima)))
        else:
            self.renew()


def train_gates(
    context: Context, kind: Callable[[nn.Module, Traced], GateScores], options: WidthGateOptions
) -> Selection:
    """Train weights and gates together from the dense network, then freeze the gates and continue.

    With fewer steps than `options.least_steps` nothing is trained: the selection is that of the
    initial widths, and a note says so.

    When the gates are frozen, widths are rounded up to the lattice, reduced by the chunks of least
    score per millisecond until the predicted latency meets the target, and increased by chunks that
    still fit. The weights are trained in place; the network is still dense at the end.

    Raises:
        BudgetError: No widths on the lattice meet the target.
        ValueError: The search space has no width group.
    """
    check_prunable(context)
    torch.manual_seed(context.training.seed)
    gates = TrainedGates(context, kind(context.model, context.traced), options)
    gates.renew()
    if gates.steps < options.least_steps and context.training.recipe.train is None:
        return replace(gates.freeze(), notes=[_left_out(gates.steps, options)])
    return train_jointly(context, gates, options)


def _left_out(steps: int, options: WidthGateOptions) -> str:
    return (
        f"Joint training of weights and gates was left out: its {steps} steps are too few to "
        f"improve on the initial widths (at least {options.least_steps} are). Give more images or "
        "epochs, or a smaller batch, if you want it."
    )


def open_gates(scores: Sequence[Tensor], minima: Sequence[int]) -> list[Tensor]:
    """Binary gates [G][C] of the scores, with at least the best `minima` [G] channels of each group
    open.
    """
    return [_open_gate(score, minimum) for score, minimum in zip(scores, minima, strict=True)]


def _open_gate(score: Tensor, minimum: int) -> Tensor:
    gate = step(score)
    if int(gate.detach().sum()) >= minimum:
        return gate
    forced = torch.zeros_like(score).scatter(0, score.topk(minimum).indices, 1.0)
    return gate + (forced - gate).clamp_min(0).detach()
