"""Joint training of weights and gates under a latency budget."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Floats
from pruning_client.execution import distributed
from pruning_client.execution.journal import (
    module_state,
    optimiser_state,
    restore_module,
    restore_optimiser,
)
from pruning_client.execution.progress import ProgressEvent
from pruning_client.graph.space import Traced
from pruning_client.latency.smoothing import envelope
from pruning_client.methods import allocation
from pruning_client.methods.base import Context, Selection, best_channels
from pruning_client.methods.gate_options import GateOptions
from pruning_client.methods.gates import BAND, Gates, GateScores, masks, step
from pruning_client.methods.initial_widths import balanced, start_widths
from pruning_client.methods.removal_costs import removal_costs
from pruning_client.training.trainer import TrainingLoss, autocast, level, set_lr, sgd

#: How often the history gets an entry, in steps.
_REPORT_EVERY = 5
#: Of the running mean of the task's gradient in the gates.
_MEMORY = 0.9
#: Share of the band of scores that a score can cross until the gates are frozen, unless `gate_lr`
#: is given.
_TRAVEL = 0.25
_PHASE = "prune"


class LatencyLoss:
    """The latency's part of the loss (docs/methods.md, section 1), with what it remembers between
    steps.

    ``log1p``: alpha log(1 + lat), the paper's form (our reconstruction), which aims at no budget.
    ``abs``: u alpha |lat / T - 1|. ``dual``: u lambda (lat / T - 1), where lambda grows by rho (lat
    / T - 1) at every step and stays at or above zero, beside a square that damps it; both are our
    own, and so is the unit u, which makes alpha and lambda mean the same for every network.
    """

    def __init__(self, config: GateOptions, target_ms: float, steps: int) -> None:
        self._config = config
        self._target_ms = target_ms
        self._rho = config.rho / max(1, steps)
        self.multiplier = config.multiplier

    def __call__(self, latency: Tensor, unit: float = 1.0) -> Tensor:
        """The term [] for a latency [] in ms; also takes the step of the multiplier.

        Args:
            unit: of loss for the whole latency.
        """
        excess = latency / self._target_ms - 1
        if self._config.loss == "log1p":
            return self._config.alpha * torch.log1p(latency)
        if self._config.loss == "abs":
            return unit * self._config.alpha * excess.abs()
        self.multiplier = max(0.0, self.multiplier + self._rho * float(excess.detach()))
        return unit * (self.multiplier * excess + 0.5 * self._config.damping * excess**2)


class GateTraining:
    """Gates in training beside the weights of a network; what a training loop of the user's own has
    to call.

    ::

        def train(model, gates):
            optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
            while gates.done < gates.steps:
                for images, labels in loader:
                    optimiser.zero_grad()
                    (my_loss(model(images), labels) + gates.loss()).backward()
                    optimiser.step()
                    gates.step()

    `step` comes after the optimiser's own: gates are computed anew from the weights that are then
    there. Before the first step it is estimated what closing each gate would cost, and scores are
    set so that gates begin at widths that meet the target and disturb the network least, with the
    channels closed that cost least. For the last part of the steps the gates are frozen, on widths
    that meet the target; a loop that ends early freezes them where it ends.

    Attributes:
        steps: how many there are to be.
        done: how many there were.
    """

    def __init__(self, context: Context, scores: GateScores, config: GateOptions) -> None:
        self._context = context
        self._scores = scores
        self.steps = config.epochs * len(context.train)
        self.done = 0
        self._frozen_from = max(1, round(self.steps * (1 - config.frozen_share)))
        rate = config.gate_lr if config.gate_lr is not None else _TRAVEL * BAND / self._frozen_from
        self._parameters = scores.parameter_groups(rate)
        self._optimiser = torch.optim.Adam(self._parameters, betas=(0.9, 0.99))
        self._loss = LatencyLoss(config, context.target_ms, self._frozen_from)
        self._smooth = envelope(context.predictor)
        self._minima = [g.minimum for g in context.traced.space.groups]
        self._gates = Gates(context.model, context.traced)
        self._open = list[Tensor]()
        self.selection: Selection | None = None
        #: of the present gates
        self.latency_ms = 0.0
        self._began, self._group_costs = self._start()
        self._costs = [
            torch.from_numpy(cost).to(next(context.model.parameters()))
            for cost in self._group_costs
        ]
        self._pull = torch.zeros_like(torch.cat(self._costs))

    @property
    def frozen(self) -> bool:
        """Whether the widths are decided."""
        return self.selection is not None

    def loss(self) -> Tensor:
        """The gates' part [] of the loss of this step; zero once they are frozen.

        Beside the latency it holds what closing each gate costs, as a straight line from the loss
        with the gate open to that with it closed [ours]: the straight-through gradient alone is the
        tangent at one end, which is flat where a network is trained. Costs grow as their group
        shrinks. The latency is in units of what the open channels mean to the task, by those costs
        and by its gradients of late, for the whole of it: so whatever the scale of the user's loss,
        the budget is heard.
        """
        if self.selection is not None:
            return self._open[0].new_zeros(())
        gates = torch.cat(self._open)
        is_open = gates.detach()
        widths = torch.stack([gate.sum() for gate in self._open])
        latency = self._smooth(widths)
        self.latency_ms = float(latency.detach())
        (slopes,) = torch.autograd.grad(latency, widths, retain_graph=True)
        share = float(torch.dot(slopes.clamp_min(0), widths.detach())) / self.latency_ms
        costs = torch.cat(
            [c * w / n for c, w, n in zip(self._costs, self._began, widths.detach(), strict=True)]
        )
        unit = float(torch.dot(costs + self._pull.abs(), is_open)) / max(share, 1e-12)
        return self._loss(latency, unit) + torch.dot(gates, costs * (1 - 2 * is_open))

    def step(self) -> None:
        """Move the gates by the gradient that is there, and set those of the next step."""
        if self.selection is None:
            distributed.average(self._pull)
            distributed.average_gradients(
                [p for group in self._parameters for p in group["params"]]
            )
            self._optimiser.step()
            self._optimiser.zero_grad(set_to_none=True)
        self.done += 1
        if self.done >= self._frozen_from and self.selection is None:
            self.freeze()
        elif self.selection is None:
            self.renew()

    def renew(self) -> None:
        """Compute the gates from the present weights."""
        self._open = open_gates(self._scores(self._context.model), self._minima)
        gates = torch.cat(self._open).clone()
        gates.register_hook(self._feel)  # type: ignore[no-untyped-call]
        self._gates.set(torch.split(gates, [len(gate) for gate in self._open]))

    def _feel(self, gradient: Tensor) -> None:
        """Take the task's gradient [channels of all groups] into its running mean."""
        self._pull = _MEMORY * self._pull + (1 - _MEMORY) * gradient

    def _start(self) -> tuple[list[int], list[Floats]]:
        """Scores in the order in which costs per millisecond would have channels go, zero at the
        widths to start at.

        Returns:
            Those widths [G], and what closing each gate costs there [G][C].
        """
        context = self._context
        predictor = self._context.predictor
        latency = predictor.latency_ms
        lattice = predictor.lattice
        estimated = [cost.double().cpu().numpy() for cost in removal_costs(context)]
        widths = start_widths(context, estimated, steps=self.steps)
        at = torch.tensor(widths, dtype=torch.float32, requires_grad=True)
        (slopes,) = torch.autograd.grad(self._smooth(at), at)
        costs = balanced(estimated, widths, slopes.double().numpy(), lattice)
        places = [
            torch.as_tensor(place + 0.5)
            for place in allocation.removal_order(costs, latency, lattice, widths)
        ]
        first = min(float(p.min()) for p in places)
        last = max(float(p.max()) for p in places)
        self._scores.start(
            context.model, [BAND * torch.where(p < 0, -p / first, p / last) for p in places]
        )
        return widths, costs

    def freeze(self) -> Selection:
        """Decide the widths and keep the gates there: on the lattice, within the target, its slack
        used.
        """
        if self.selection is None:
            self._settle(self._decide())
        assert self.selection is not None
        return self.selection

    def _decide(self) -> Selection:
        """Widths near those of the gates that are on the lattice and use the target up."""
        with torch.no_grad():
            raw = [score.double().cpu().numpy() for score in self._scores(self._context.model)]
        widths = [
            max(int((score >= 0).sum()), low) for score, low in zip(raw, self._minima, strict=True)
        ]
        # the order is what the gates have learnt, the sizes are those of the costs, which grow as
        # channels go
        ranks = [score.argsort().argsort() for score in raw]
        costs = [
            np.sort(cost) * began / np.arange(len(cost), 0, -1)
            for cost, began in zip(self._group_costs, self._began, strict=True)
        ]
        scores = [cost[rank] for cost, rank in zip(costs, ranks, strict=True)]
        predictor = self._context.predictor
        fitted = allocation.fit(
            widths, scores, predictor.latency_ms, predictor.lattice, self._context.target_ms
        )
        return Selection(keep=best_channels(scores, fitted), scores=scores)

    def attached(self) -> Any:
        """While open, the network's forward pass is gated."""
        return self._gates.attached()

    @property
    def multiplier(self) -> float | None:
        """Of the loss `dual`; None once the gates are frozen."""
        return self._loss.multiplier if self.selection is None else None

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a checkpoint holds of the gates."""
        tensors, values = optimiser_state("gate_optimiser", self._optimiser)
        tensors["pull"] = self._pull
        if isinstance(self._scores, nn.Module):
            tensors |= module_state("scores", self._scores)
        if self.selection is not None:
            tensors |= {
                f"kept.{g}": torch.from_numpy(keep) for g, keep in enumerate(self.selection.keep)
            }
            tensors |= {
                f"score.{g}": torch.from_numpy(score)
                for g, score in enumerate(self.selection.scores)
            }
        more = {"done": self.done, "multiplier": self._loss.multiplier}
        return tensors, {"gate_optimiser": values, "frozen": self.selection is not None, **more}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Go on from a checkpoint; the network's weights are there already."""
        restore_optimiser("gate_optimiser", self._optimiser, tensors, values["gate_optimiser"])
        if isinstance(self._scores, nn.Module):
            restore_module("scores", self._scores, tensors)
        self.done = values["done"]
        self._loss.multiplier = values["multiplier"]
        self._pull = tensors["pull"].to(self._pull)
        if values["frozen"]:
            groups = range(len(self._minima))
            keep = [tensors[f"kept.{g}"].numpy() for g in groups]
            self._settle(
                Selection(keep=keep, scores=[tensors[f"score.{g}"].numpy() for g in groups])
            )
        else:
            self.renew()

    def _settle(self, selection: Selection) -> None:
        self.selection = selection
        sizes = [len(score) for score in selection.scores]
        self._open = masks(selection.keep, sizes, self._context.model)
        self._gates.set(self._open)
        self.latency_ms = self._context.predictor.one_ms(selection.widths)


def train_gates(
    context: Context, kind: Callable[[nn.Module, Traced], GateScores], options: GateOptions
) -> Selection:
    """Train weights and gates together from the dense network, then freeze the gates and train on.

    When the gates freeze, widths go to the lattice (to the wider width first), are corrected by
    chunks of least score per millisecond until the predicted latency meets the target, and use up
    what slack there is. The weights are trained in place; the network is still dense when this
    returns.

    Raises:
        BudgetError: no widths on the lattice reach the target.
    """
    if not context.traced.space.groups:
        raise ValueError("the space has no width group: there is nothing to decide")
    allocation.check_reachable(
        context.predictor.latency_ms, context.predictor.lattice, context.target_ms
    )
    torch.manual_seed(context.training.seed)
    scores = kind(context.model, context.traced)
    gates = GateTraining(context, scores, options)
    gates.renew()
    context.model.train()
    recipe = context.training.recipe
    loop = _Loop(context, gates, options) if recipe.train is None else None
    history: list[dict[str, Any]] = []
    with gates.attached():
        if loop is not None:
            history = loop.run()
        elif recipe.train is not None:
            recipe.train(context.model, gates)
        selection = gates.freeze()
    context.model.eval()
    return Selection(keep=selection.keep, scores=selection.scores, history=history)


class _Loop:
    """The default training loop: it reports, and goes on from a checkpoint where there is one."""

    def __init__(self, context: Context, gates: GateTraining, config: GateOptions) -> None:
        recipe = context.training.recipe
        self._lr = config.lr
        self._context = context
        self._gates = gates
        teacher = copy.deepcopy(context.model).eval()
        self._task = TrainingLoss(config=context.training, teacher=teacher)
        self._history: list[dict[str, Any]] = []
        self._smoothed = 0.0
        self._optimiser = (
            sgd(context.model, config.lr, config.momentum, config.weight_decay)
            if recipe.optimiser is None
            else recipe.optimiser(context.model)
        )
        self._schedule = recipe.schedule and recipe.schedule(self._optimiser, gates.steps)
        self._own_rate = recipe.optimiser is None and recipe.schedule is None

    def run(self) -> list[dict[str, Any]]:
        context = self._context
        gates = self._gates
        self._resume()
        for images, labels in _stream(context, gates.done, gates.steps):
            x, y, weight = distributed.shard(images, labels)
            with autocast(context.model, context.training.precision):
                task = self._task.loss(context.model, x, y)
            loss = weight * task.float() + gates.loss()
            multiplier = gates.multiplier
            latency_ms = gates.latency_ms
            if self._own_rate:
                set_lr(self._optimiser, level(self._lr, gates.done, gates.steps))
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            distributed.average_gradients(context.model.parameters())
            self._optimiser.step()
            gates.step()
            if self._schedule is not None:
                self._schedule.step()
            self._report(float(task.detach()), latency_ms, multiplier)
        return self._history

    def _report(self, loss: float, latency_ms: float, multiplier: float | None) -> None:
        context = self._context
        done = self._gates.done
        self._smoothed = loss if done == 1 else 0.9 * self._smoothed + 0.1 * loss
        ends_epoch = done % len(context.train) == 0
        if done % _REPORT_EVERY == 0 or ends_epoch:
            entry: dict[str, Any] = {
                "phase": _PHASE,
                "step": done,
                "loss": self._smoothed,
                "latency_ms": latency_ms,
            }
            if multiplier is not None:
                entry["multiplier"] = multiplier
            if ends_epoch:
                distributed.average_buffers(context.model)
            if ends_epoch and context.evaluate is not None:
                entry["accuracy"] = context.evaluate(context.model)
            self._history.append(entry)
        if ends_epoch:
            self._save()
        figures = {
            "loss": f"{self._smoothed:.3f}",
            "predicted": f"{latency_ms:.3f} of {context.target_ms:.3f} ms",
        }
        context.progress(
            ProgressEvent(
                phase=_PHASE, done=done, total=self._gates.steps, unit="batches", figures=figures
            )
        )

    def _save(self) -> None:
        tensors, values = optimiser_state("optimiser", self._optimiser)
        gate_tensors, gate_values = self._gates.state()
        tensors |= gate_tensors | module_state("model", self._context.model)
        schedule = self._schedule.state_dict() if self._schedule is not None else None
        more = {"history": self._history, "smoothed": self._smoothed, "schedule": schedule}
        self._context.journal.save(
            _PHASE, tensors, {"optimiser": values, "gates": gate_values, **more}
        )

    def _resume(self) -> None:
        found = self._context.journal.load(_PHASE)
        if found is None:
            return
        tensors, values = found
        restore_module("model", self._context.model, tensors)
        restore_optimiser("optimiser", self._optimiser, tensors, values["optimiser"])
        self._gates.restore(tensors, values["gates"])
        self._history = values["history"]
        self._smoothed = values["smoothed"]
        if self._schedule is not None:
            self._schedule.load_state_dict(values["schedule"])


def open_gates(scores: Sequence[Tensor], minima: Sequence[int]) -> list[Tensor]:
    """Binary gates [G][C] of the scores; the best `minima` channels of each group are open whatever
    their score.
    """
    gates = []
    for score, minimum in zip(scores, minima, strict=True):
        gate = step(score)
        if int(gate.detach().sum()) < minimum:
            forced = torch.zeros_like(score).scatter(0, score.topk(minimum).indices, 1.0)
            gate = gate + (forced - gate).clamp_min(0).detach()
        gates.append(gate)
    return gates


def _stream(context: Context, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of steps `start` to `stop`, each epoch in its own order; the same order however it is
    cut.
    """
    per_epoch = len(context.train)
    device = next(context.model.parameters()).device
    at = start
    while at < stop:
        epoch, offset = divmod(at, per_epoch)
        for number, (images, labels) in enumerate(
            context.train.shuffled(context.training.seed * 6151 + epoch)
        ):
            if number < offset:
                continue
            if at >= stop:
                return
            yield images.to(device), labels.to(device)
            at += 1
