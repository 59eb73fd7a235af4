"""Joint training of weights and gates under a latency budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client import allocators
from pruning_client.config import GateConfig
from pruning_client.envelope import envelope
from pruning_client.finetune import cosine, set_lr, sgd
from pruning_client.methods.base import Context, Floats, Selection, best_channels
from pruning_client.methods.gates import OFFSET, Gates, GateScores, step
from pruning_client.progress import Step

#: How often the history gets an entry, in steps.
_REPORT_EVERY = 5
#: Width of the bend of the smooth max(s, 0), in scores.
_SHARPNESS = 0.05


class LatencyLoss:
    """The latency's part of the loss (docs/methods.md, section 1), with what it remembers between steps.

    ``log1p``: alpha log(1 + lat), the paper's form (our reconstruction), which aims at no budget. ``abs``:
    alpha |lat / T - 1|. ``dual``: lambda (lat / T - 1), where lambda grows by rho (lat / T - 1) at every step and stays
    at or above zero, beside a square that damps it; both are our own. T comes down evenly from the dense latency to the
    budget during the first steps, so that gates close one after the other and not at once.
    """

    def __init__(self, config: GateConfig, start_ms: float, target_ms: float, steps: int) -> None:
        self._config, self._start_ms, self._target_ms = config, start_ms, target_ms
        self._rho = config.rho / max(1, steps)
        self._ramp, self._step = max(1.0, config.ramp_share * steps), 0
        self.multiplier = 0.0

    def __call__(self, latency: Tensor) -> Tensor:
        """The term [] for a latency [] in ms; also takes the step of the multiplier."""
        self._step += 1
        left = max(0.0, 1 - self._step / self._ramp)
        excess = latency / (self._target_ms + left * max(0.0, self._start_ms - self._target_ms)) - 1
        if self._config.loss == "log1p":
            return self._config.alpha * torch.log1p(latency)
        if self._config.loss == "abs":
            return self._config.alpha * excess.abs()
        self.multiplier = max(0.0, self.multiplier + self._rho * float(excess.detach()))
        return self.multiplier * excess + 0.5 * self._config.damping * excess**2


@dataclass
class _Run:
    """What the steps of one training share."""

    context: Context
    scores: GateScores
    gates: Gates
    history: list[dict[str, Any]]
    step: int = 0
    loss: float = 0.0


def train_gates(context: Context, scores: GateScores) -> Selection:
    """Train weights and gates together from the dense network, then freeze the gates and train on.

    When the gates freeze, widths go to the lattice (to the wider width first), are corrected by chunks of least score
    per millisecond until the predicted latency meets the target, and grow where there is slack. The weights are trained
    in place; the network is still dense when this returns.

    Raises:
        BudgetError: no widths on the lattice reach the target.
    """
    config, lattice = context.config.gates, context.predictor.lattice
    allocators.check_reachable(context.predictor.latency_ms, lattice, context.target_ms)
    total = config.epochs * len(context.train)
    frozen_from = max(1, round(total * (1 - config.frozen_share)))
    run = _Run(context=context, scores=scores, gates=Gates(context.model, context.traced), history=[])
    optimiser = sgd(context.model, config.lr, config.momentum, config.weight_decay)
    context.model.train()
    with run.gates.attached():
        _train_open(run, optimiser, frozen_from, total)
        selection = _decide(run)
        run.gates.set(_masks(selection, context.model))
        _train_frozen(run, optimiser, total, context.predictor.one_ms(selection.widths))
    context.model.eval()
    return selection


def _train_open(run: _Run, optimiser: torch.optim.Optimizer, until: int, total: int) -> None:
    context, config = run.context, run.context.config.gates
    gate_lr = config.gate_lr if config.gate_lr is not None else 1.5 * OFFSET / until
    gate_optimiser = torch.optim.Adam(run.scores.parameter_groups(gate_lr), betas=(0.9, 0.99))
    latency_loss = LatencyLoss(config, context.predictor.sidecar.dense_ms, context.target_ms, until)
    minima = [group.minimum for group in context.traced.space.groups]
    smooth = envelope(context.predictor)
    for images, labels in _stream(context, 0, until):
        gates = open_gates(run.scores(context.model), minima)
        run.gates.set(gates)
        widths = torch.stack([gate.sum() for gate in gates])
        latency = smooth(widths)
        task = _task_loss(context.model, images, labels)
        set_lr(optimiser, cosine(config.lr, run.step, total, floor=0.1))
        _descend(task + latency_loss(latency), optimiser, gate_optimiser)
        _report(run, total, float(task.detach()), float(latency.detach()), latency_loss.multiplier)


def _train_frozen(run: _Run, optimiser: torch.optim.Optimizer, total: int, latency_ms: float) -> None:
    context, config = run.context, run.context.config.gates
    for images, labels in _stream(context, run.step, total):
        task = _task_loss(context.model, images, labels)
        set_lr(optimiser, cosine(config.lr, run.step, total, floor=0.1))
        _descend(task, optimiser)
        _report(run, total, float(task.detach()), latency_ms, None)


def open_gates(scores: Sequence[Tensor], minima: Sequence[int]) -> list[Tensor]:
    """Binary gates [G][C] of the scores; the best `minima` channels of each group are open whatever their score."""
    gates = []
    for score, minimum in zip(scores, minima, strict=True):
        gate = step(score)
        if int(gate.detach().sum()) < minimum:
            forced = torch.zeros_like(score).scatter(0, score.topk(minimum).indices, 1.0)
            gate = gate + (forced - gate).clamp_min(0).detach()
        gates.append(gate)
    return gates


def _decide(run: _Run) -> Selection:
    context = run.context
    with torch.no_grad():
        raw = [score.double().cpu().numpy() for score in run.scores(context.model)]
        minima = [group.minimum for group in context.traced.space.groups]
        widths = [max(int((score >= 0).sum()), low) for score, low in zip(raw, minima, strict=True)]
    scores = [importances(score) for score in raw]
    predictor = context.predictor
    fitted = allocators.fit(widths, scores, predictor.latency_ms, predictor.lattice, context.target_ms)
    return Selection(keep=best_channels(scores, fitted), scores=scores, history=run.history)


def importances(scores: Floats) -> Floats:
    """Gate scores [C] as importances above zero, in the same order: a smooth max(s, 0).

    A channel whose gate is closed costs next to nothing, so that corrections of the widths undo roundings before they
    touch open gates.
    """
    return cast(Floats, np.logaddexp(0.0, scores / _SHARPNESS)) + 1e-6


def _masks(selection: Selection, model: nn.Module) -> list[Tensor]:
    like = next(model.parameters())
    masks = []
    for keep, score in zip(selection.keep, selection.scores, strict=True):
        mask = torch.zeros(len(score))
        mask[torch.from_numpy(keep)] = 1
        masks.append(mask.to(like))
    return masks


def _stream(context: Context, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of steps `start` to `stop`, each epoch in its own order; the same order however it is cut."""
    per_epoch, device = len(context.train), next(context.model.parameters()).device
    at = start
    while at < stop:
        epoch, offset = divmod(at, per_epoch)
        for number, (images, labels) in enumerate(context.train.shuffled(context.config.seed * 6151 + epoch)):
            if number < offset:
                continue
            if at >= stop:
                return
            yield images.to(device), labels.to(device)
            at += 1


def _task_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(model(images), labels)


def _descend(loss: Tensor, *optimisers: torch.optim.Optimizer) -> None:
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    for optimiser in optimisers:
        optimiser.step()


def _report(run: _Run, total: int, loss: float, latency_ms: float, multiplier: float | None) -> None:
    run.loss = loss if run.step == 0 else 0.9 * run.loss + 0.1 * loss
    run.step += 1
    ends_epoch = run.step % len(run.context.train) == 0
    if run.step % _REPORT_EVERY == 0 or ends_epoch:
        entry: dict[str, Any] = {"phase": "prune", "step": run.step, "loss": run.loss, "latency_ms": latency_ms}
        if multiplier is not None:
            entry["multiplier"] = multiplier
        if ends_epoch and run.context.evaluate is not None:
            entry["accuracy"] = run.context.evaluate(run.context.model)
        run.history.append(entry)
    figures = {"loss": f"{run.loss:.3f}", "predicted": f"{latency_ms:.3f} of {run.context.target_ms:.3f} ms"}
    run.context.progress(Step(phase="prune", done=run.step, total=total, unit="batches", figures=figures))
