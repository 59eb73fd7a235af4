"""Contribution of each channel to the network's outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from latency_service.core.arrays import Floats
from pruning_client.data.batch import Batch
from pruning_client.execution import distributed
from pruning_client.execution.modes import evaluating
from pruning_client.execution.progress import ProgressEvent
from pruning_client.graph.modules import GatePoint
from pruning_client.methods.base import Context
from pruning_client.methods.removal_costs import random_projection
from pruning_client.training.outputs import IGNORED, are_class_scores, class_labels

_PHASE = "estimate contributions"


def contributions(context: Context, batches: int) -> list[Floats]:
    """Mean absolute gradient I = mean |dP(y)/dA| of each channel [G][C], over images and positions.

    P(y) is the probability of the label, or of the network's own class where there are no labels
    [ours]. For other outputs a random projection takes its place, as for removal costs [ours]. A is
    the channel's activation where gates are; the mean is over the places of a group [ours].
    """
    estimate = _Estimate(context)
    total = min(batches, len(context.train))
    shuffled = islice(context.train.shuffled(context.training.seed), total)
    with evaluating(context.model), estimate.attached():
        for done, batch in enumerate(shuffled, 1):
            estimate.add(batch)
            context.progress(ProgressEvent(phase=_PHASE, done=done, total=total, unit="batches"))
    return estimate.means()


class _Estimate:
    """Sums of absolute gradients at each place for gates."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._device = next(context.model.parameters()).device
        self._generator = torch.Generator().manual_seed(context.training.seed)
        self._sums = {
            point.module: torch.zeros(len(point.group), device=self._device)
            for point in context.traced.gates
        }
        self._weight = 0.0

    def add(self, batch: Batch) -> None:
        """Add this process's part of a batch."""
        part, weight = distributed.share(len(batch))
        self._weight = weight
        mine = batch.part(part).to(self._device)
        with torch.enable_grad():
            outputs = self._context.model(*mine.inputs)
            self._value(outputs, mine.target).backward()  # type: ignore[no-untyped-call]

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Collect gradients while the context is open; parameters get none."""
        trained = [p for p in self._context.model.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        handles = [
            self._context.model.get_submodule(point.module).register_forward_hook(self._hook(point))
            for point in self._context.traced.gates
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for parameter in trained:
                parameter.requires_grad_(True)

    def means(self) -> list[Floats]:
        """Mean gradients [G][C], divided by the mean of their place."""
        sizes = [group.width for group in self._context.traced.space.groups]
        totals = [np.zeros(size) for size in sizes]
        for point in self._context.traced.gates:
            found = self._sums[point.module]
            distributed.average(found)
            values = found.double().cpu().numpy()
            values = values / max(float(values.mean()), np.finfo(np.float64).tiny)
            where = point.group >= 0
            for group in np.unique(point.group[where]):
                mine = point.group == group
                np.add.at(totals[group], point.channel[mine], values[mine])
        return totals

    def _hook(self, point: GatePoint) -> Any:
        def collect(gradient: Tensor) -> None:
            axes = [a for a in range(gradient.dim()) if a != point.axis % gradient.dim()]
            self._sums[point.module] += self._weight * gradient.detach().float().abs().mean(axes)

        def watch(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            # a clone, because the next module may work in place
            watched = output if output.requires_grad else output.detach().requires_grad_().clone()
            watched.register_hook(collect)  # type: ignore[no-untyped-call]
            return watched

        return watch

    def _value(self, outputs: Any, target: Any) -> Tensor:
        """Sum over images [] of what the gradient is taken of."""
        if are_class_scores(self._context.training.recipe, outputs, target):
            return _probability(outputs.float(), target)
        leaves = [x for x in pytree.tree_leaves(outputs) if torch.is_tensor(x)]
        return torch.stack(
            [len(x) * random_projection(x.float(), self._generator) for x in leaves]
        ).sum()


def _probability(scores: Tensor, target: Any) -> Tensor:
    """Sum over images [] of the mean probability of their labels, for scores [B, classes, ...]."""
    labels = class_labels(scores, target)
    if labels is None:
        labels = scores.argmax(1)
    counts = labels != IGNORED
    chosen = scores.softmax(1).gather(1, labels.clamp_min(0)[:, None]).squeeze(1)
    return (
        (chosen * counts).flatten(1).mean(1).sum() if chosen.dim() > 1 else (chosen * counts).sum()
    )
