"""Gates that polarise while they are trained: some go to zero, the others away from it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Floats, Ints
from pruning_client.execution import distributed
from pruning_client.execution.journal import Tensors
from pruning_client.latency.smoothing import with_secant_gradient
from pruning_client.methods import allocation
from pruning_client.methods.base import LEAST_SCORE, Context, Selection, best_channels
from pruning_client.methods.gdp.branches import residual_branches
from pruning_client.methods.gdp.options import GdpOptions
from pruning_client.methods.gdp.places import Places
from pruning_client.methods.joint_training import restored_selection, selection_state
from pruning_client.methods.latency_loss import LatencyLoss, prunable_share
from pruning_client.training.checkpoint import optimiser_state, restore_optimiser

#: Weight of the past in running means.
_MEMORY = 0.9
#: Number of times that theta can cross from one to zero until the widths are decided, unless
#: `gate_lr` is given.
_CROSSINGS = 2.0
#: Largest rate that is chosen so: with fewer steps, a few gradients would close a gate for good.
_LARGEST_RATE = 0.25
#: Lowest theta until the widths are decided: at zero a gate has no gradient and cannot return.
_LEAST_THETA = 1e-4
#: Share of the steps after the decision in which gates move to their final values.
_SETTLING = 0.5


def polarised(theta: Tensor, epsilon: float) -> Tensor:
    """Gates [...] for theta [...] in [0, 1]: (1 + epsilon) theta^2 / (theta^2 + epsilon).

    The form of Guo et al., arXiv 2109.02220 (a reconstruction), scaled so that theta = 1 gives 1
    for every epsilon [ours]: the training starts at the dense network.
    """
    square = theta.square()
    return (1 + epsilon) * square / (square + epsilon)


class PolarGates:
    """Channel gates, and gates of whole residual branches, that a `Trainer` or a user's own loop
    trains together with the weights: the `GateTraining` of GDP.

    Until the decision, theta of every channel is trained by the task and the predicted latency, and
    epsilon falls. Then the widths are fitted to the lattice and the target, and the gates move to
    their final values: zero for the channels to remove, at least the margin for the others.

    Attributes:
        steps: Number of steps to take.
        done: Number of steps taken.
        selection: Channels to keep, once the widths are decided.
        latency_ms: Predicted latency of the present gates, ms.
        widths: Widths of the present gates [G]: their sums, rounded.
        undecided: Share of the gates between the threshold and the margin before they settle.
    """

    def __init__(self, context: Context, places: Places, options: GdpOptions) -> None:
        self.steps = options.epochs * len(context.train)
        self.done = 0
        self.selection: Selection | None = None
        self.latency_ms = 0.0
        self.widths = list[int]()
        self.undecided = 0.0
        self.places = places
        self._context = context
        self._options = options
        self._decide_at = max(1, round(self.steps * (1 - options.frozen_share)))
        self._decided_at = self._decide_at
        self._sizes = [group.width for group in context.traced.space.groups]
        self._minima = [group.minimum for group in context.traced.space.groups]
        branches = residual_branches(context.traced) if options.blocks else []
        device = next(context.model.parameters()).device
        self._branch_of = _branch_of(branches, self._sizes).to(device)
        self._theta = nn.Parameter(torch.ones(sum(self._sizes), device=device))
        self._switches = nn.Parameter(torch.ones(len(branches), device=device))
        rate = options.gate_lr
        if rate is None:
            rate = min(_CROSSINGS / self._decide_at, _LARGEST_RATE)
        self._optimiser = torch.optim.Adam(self._parameters, lr=rate, betas=(0.9, 0.99))
        self._latency_loss = LatencyLoss(options, context.target_ms, self._decide_at)
        self._smooth = with_secant_gradient(context.predictor)
        self._gating = places.gates(context.model, context.traced)
        self._present = self._theta.detach()
        self._gradient = torch.zeros_like(self._present)
        #: Running mean of the task's gradient in the gates [channels of all groups].
        self._task_gradient = torch.zeros_like(self._present)
        #: Running mean of the squared change of the loss by closing each gate, to first order
        #: [channels of all groups].
        self._worth = torch.zeros_like(self._present)
        #: Gates before they settle, and their final values [channels of all groups].
        self._before = torch.zeros_like(self._present)
        self._final = torch.zeros_like(self._present)
        self.renew()

    @property
    def _parameters(self) -> list[nn.Parameter]:
        """Parameters with any element."""
        return [p for p in (self._theta, self._switches) if len(p)]

    @property
    def frozen(self) -> bool:
        """Whether the widths are decided."""
        return self.selection is not None

    @property
    def epsilon(self) -> float:
        """The present epsilon: it falls by the same factor in every step until the decision."""
        share = min(1.0, self.done / self._decide_at)
        first, last = self._options.epsilon, self._options.last_epsilon
        return float(first * (last / first) ** share)

    @property
    def values(self) -> list[Tensor]:
        """Present gates [G][C]."""
        return list(torch.split(self._present.detach(), self._sizes))

    def loss(self) -> Tensor:
        """The gates' term [] of the loss of this step; zero once the widths are decided.

        It is the latency at the sums of the gates, in units of what the gates are worth to the
        task by its recent gradients [ours], so that the budget takes effect at any scale of the
        user's loss.
        """
        if self.frozen:
            return self._present.new_zeros(())
        sums = torch.stack([gate.sum() for gate in torch.split(self._present, self._sizes)])
        widths = torch.maximum(sums, torch.tensor(self._minima).to(sums))
        latency = self._smooth(widths)
        self.widths = [round(width) for width in widths.tolist()]
        self.latency_ms = float(latency.detach())
        worth = float(torch.dot(self._task_gradient.abs(), self._present.detach()))
        return self._latency_loss(latency, worth / max(prunable_share(latency, widths), 1e-12))

    def step(self) -> None:
        """Update theta from its gradient, and compute the gates of the next step."""
        self.done += 1
        if not self.frozen:
            self._descend()
            if self.done >= self._decide_at:
                self._decide()
        self.renew()

    def _descend(self) -> None:
        distributed.average(self._gradient)
        present = self._present.detach()
        self._task_gradient.lerp_(self._gradient, 1 - _MEMORY)
        self._worth.lerp_((present * self._gradient).square(), 1 - _MEMORY)
        self._gradient = torch.zeros_like(self._gradient)
        distributed.average_gradients(self._parameters)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            for parameter in self._parameters:
                parameter.clamp_(_LEAST_THETA, 1)

    def renew(self) -> None:
        """Compute the gates of the next forward passes."""
        if self.frozen:
            self._present = torch.lerp(self._before, self._final, self._settled_share())
            gates = self._present
        else:
            self._present = self._effective()
            # a copy, so that its gradient is the task's alone
            gates = self._present.clone()
            gates.register_hook(self._remember)  # type: ignore[no-untyped-call]
        like = next(self._context.model.parameters())
        self._gating.set(torch.split(gates.to(like.dtype), self._sizes))

    def _effective(self) -> Tensor:
        """Gates of the channels times those of their branches [channels of all groups]."""
        switches = polarised(self._switches, self.epsilon)
        by_branch = torch.cat([switches, switches.new_ones(1)])
        return polarised(self._theta, self.epsilon) * by_branch[self._branch_of]

    def _remember(self, gradient: Tensor) -> None:
        self._gradient += gradient

    def _settled_share(self) -> float:
        """Share of the way from the gates at the decision to their final values."""
        last = _SETTLING * (self.steps - self._decided_at)
        return min(1.0, (self.done - self._decided_at) / last) if last > 0 else 1.0

    def freeze(self) -> Selection:
        """Decide the widths, if that is still open, and move the gates to their final values."""
        if self.selection is None:
            self._decide()
        assert self.selection is not None
        self._before = self._final
        self.renew()
        return self.selection

    @torch.no_grad()
    def _decide(self) -> None:
        """Choose the channels to keep: widths on the lattice that meet the target and use it
        fully, nearest to the numbers of open gates.
        """
        self._before = self._effective()
        between = (self._before > self._options.threshold) & (self._before < self._options.margin)
        self.undecided = float(between.float().mean())
        gates = [part.double().cpu().numpy() for part in torch.split(self._before, self._sizes)]
        relative = self._worth / self._worth.mean().clamp_min(torch.finfo(torch.float32).tiny)
        worth = [part.double().cpu().numpy() for part in torch.split(relative, self._sizes)]
        margin = self._options.margin
        scores = [_scores(*pair, margin) for pair in zip(gates, worth, strict=True)]
        widths = [
            max(int((gate >= margin).sum()), minimum)
            for gate, minimum in zip(gates, self._minima, strict=True)
        ]
        predictor = self._context.predictor
        fitted = allocation.fit(
            widths, scores, predictor.latency_ms, predictor.lattice, self._context.target_ms
        )
        self._keep(Selection(keep=best_channels(scores, fitted), scores=scores), self.done)
        self._final = self._targets(best_channels(scores, fitted))

    def _keep(self, selection: Selection, decided_at: int) -> None:
        self.selection = selection
        self._decided_at = decided_at
        self.widths = selection.widths
        self.latency_ms = self._context.predictor.one_ms(selection.widths)

    def _targets(self, keep: Sequence[Ints]) -> Tensor:
        """Final gates [channels of all groups]: zero for the channels to remove, at least the
        margin for the others, and one where nothing can absorb them.
        """
        parts = []
        before = torch.split(self._before, self._sizes)
        for name, present, kept in zip(self.places.names, before, keep, strict=True):
            index = torch.as_tensor(kept, device=present.device)
            lowest = 1.0 if name == "binary" else self._options.margin
            final = torch.zeros_like(present)
            final[index] = present[index].clamp_min(lowest)
            parts.append(final)
        return torch.cat(parts)

    def attached(self) -> contextlib.AbstractContextManager[None]:
        """Gate the network's forward pass while the context is open."""
        return self._gating.attached()

    def absorb(self) -> None:
        """Multiply the gates into the network's weights, in place."""
        self.places.absorb(self._context.model, self.values)

    def metrics(self) -> dict[str, Any]:
        """Predicted latency, ms, and widths [G]; until the decision the multiplier of `dual`, then
        the share of the gates that had not polarised by themselves.
        """
        present = {"latency_ms": self.latency_ms, "widths": self.widths}
        if self.frozen:
            return present | {"undecided": self.undecided}
        return present | {"multiplier": self._latency_loss.multiplier}

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors and plain values of the gates for a checkpoint."""
        tensors, optimiser = optimiser_state("gate_optimiser", self._optimiser)
        tensors |= {f"gates.{name}": value.detach() for name, value in self._tensors().items()}
        if self.selection is not None:
            tensors |= selection_state(self.selection)
        return tensors, {
            "optimiser": optimiser,
            "frozen": self.frozen,
            "done": self.done,
            "decided_at": self._decided_at,
            "multiplier": self._latency_loss.multiplier,
            "undecided": self.undecided,
        }

    def restore(self, tensors: Tensors, values: dict[str, Any]) -> None:
        """Restore a checkpoint, after the network's weights."""
        restore_optimiser("gate_optimiser", self._optimiser, tensors, values["optimiser"])
        with torch.no_grad():
            for name, own in self._tensors().items():
                own.copy_(tensors[f"gates.{name}"])
        self.done = values["done"]
        self.undecided = values["undecided"]
        self._latency_loss.multiplier = values["multiplier"]
        if values["frozen"]:
            selection = restored_selection(tensors, groups=len(self._sizes))
            self._keep(selection, values["decided_at"])
        self.renew()

    def _tensors(self) -> dict[str, Tensor]:
        return {
            "theta": self._theta,
            "switches": self._switches,
            "task_gradient": self._task_gradient,
            "worth": self._worth,
            "before": self._before,
            "final": self._final,
        }


def _branch_of(branches: Sequence[Sequence[int]], sizes: Sequence[int]) -> Tensor:
    """Index of the branch of each channel of all groups, or the number of branches."""
    parts = []
    for group, size in enumerate(sizes):
        inside = [index for index, groups in enumerate(branches) if group in groups]
        parts.append(torch.full((size,), inside[0] if inside else len(branches)))
    return torch.cat(parts)


def _scores(gates: Floats, worth: Floats, margin: float) -> Floats:
    """Scores [C] whose order is by gate, and by worth among the open ones; their values are the
    worths, so that groups are comparable.
    """
    order = np.lexsort((worth, np.minimum(gates, margin)))
    scores = np.empty_like(worth)
    # never equal, so that the order is certain
    steps = LEAST_SCORE * np.arange(1, len(order) + 1)
    scores[order] = np.sort(worth) + steps
    return scores
