"""Channels that are switched off at random, judged and removed while the weights are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latency_service.core.arrays import Floats
from pruning_client.execution import distributed
from pruning_client.execution.journal import Tensors
from pruning_client.methods import allocation
from pruning_client.methods.base import LEAST_SCORE, Context, best_channels
from pruning_client.methods.dcp.criteria import criterion_of, memory_of
from pruning_client.methods.dcp.milestones import milestone_goals, milestone_steps, remove_worst
from pruning_client.methods.dcp.options import DcpOptions
from pruning_client.methods.dcp.quality import batch_quality
from pruning_client.methods.gates import Gates
from pruning_client.training.callback import Callback

#: Lowest score, as a share of the mean of those that are positive: no channel is free.
_LEAST = 1e-3


class DynamicPruning(Callback):
    """Pruning during training, as a callback of the trainer.

    All processes of a job draw the same channels, from a generator of their own, and see the
    accuracy of all samples.

    Attributes:
        milestone_ms: Predicted latency after each milestone that was reached, ms.
    """

    def __init__(self, context: Context, options: DcpOptions, steps: int) -> None:
        predictor = context.predictor
        self._context = context
        self._options = options
        self._sizes = [group.width for group in context.traced.space.groups]
        total = sum(self._sizes)
        self._gates = Gates(context.model, context.traced)
        self._like = next(context.model.parameters())
        self._generator = torch.Generator().manual_seed(context.training.seed)
        memory = memory_of(options.criterion, steps) if options.memory is None else options.memory
        self._criterion = criterion_of(
            options.criterion, total, options.drop, memory, options.passes
        )
        self._steps = milestone_steps(steps, options.milestones)
        full_ms = predictor.one_ms(self._sizes)
        self._goals = milestone_goals(full_ms, context.target_ms, options.milestones)
        self._done = 0
        self._reached = 0
        self._kept = torch.ones(total, dtype=torch.bool)
        #: Latest estimate of what each channel is worth [N].
        self._worth = torch.zeros(total, dtype=torch.float64)
        #: Milestone at which each channel was removed [N]; one more than there are if none.
        self._removed = torch.full((total,), options.milestones + 1)
        self.milestone_ms: list[float] = []
        self._latency_ms = full_ms
        self._drawn: list[Tensor] = []
        self._accuracies: list[float] = []
        self._start_pass()
        self._set(self._kept)

    @property
    def is_finished(self) -> bool:
        """Whether the last milestone is past."""
        return self._reached == len(self._goals)

    @property
    def keep(self) -> list[Any]:
        """Channels that are still there, ascending [G][n]."""
        return [np.flatnonzero(part) for part in self._by_group(self._kept.numpy())]

    @property
    def scores(self) -> list[Floats]:
        """Positive scores of all channels [G][C], comparable between groups.

        Their order is that of removal: the channels removed first are lowest, and within a
        milestone those that were worth least. Their values are the estimates, as far as they are
        positive, in that order [ours].
        """
        order = torch.from_numpy(np.lexsort((self._worth.numpy(), self._removed.numpy())))
        worth = self._worth.clamp_min(0).sort().values
        least = _LEAST * float(worth[worth > 0].mean()) if bool((worth > 0).any()) else LEAST_SCORE
        rising = least * torch.arange(1, len(worth) + 1, dtype=torch.float64) / len(worth)
        scores = torch.empty_like(worth)
        scores[order] = worth.clamp_min(least) + rising
        return self._by_group(scores.numpy())

    @property
    def further_passes(self) -> int:
        return 0 if self.is_finished else self._options.passes - 1

    def before_pass(self) -> None:
        if self.is_finished:
            return
        on = torch.rand(len(self._kept), generator=self._generator) >= self._options.drop
        self._drawn.append(on & self._kept)
        self._set(self._drawn[-1])

    def observe(self, outputs: Any, target: Any) -> None:
        if self.is_finished:
            return
        quality, count = batch_quality(self._context.training, outputs, target)
        self._seen += torch.stack([quality, count]).to(self._seen)

    def after_pass(self) -> None:
        if self.is_finished:
            return
        distributed.average(self._seen)
        self._accuracies.append(float(self._seen[0] / self._seen[1].clamp_min(1e-12)))
        self._start_pass()

    def metrics(self) -> dict[str, Any]:
        return {"latency_ms": self._latency_ms}

    def figures(self, metrics: dict[str, Any]) -> dict[str, str]:
        target_ms = self._context.target_ms
        return {"predicted": f"{metrics['latency_ms']:.3f} of {target_ms:.3f} ms"}

    def after_step(self) -> None:
        self._done += 1
        if self.is_finished:
            return
        self._criterion.add(torch.stack(self._drawn), self._accuracies)
        self._drawn = []
        self._accuracies = []
        due = sum(step <= self._done for step in self._steps)
        if due > self._reached:
            self._remove(due)
        self._set(self._kept)

    def attached(self) -> Any:
        """Gate the network's forward pass while the context is open."""
        return self._gates.attached()

    def _start_pass(self) -> None:
        """Forget the quality of the pass before: sum and number of samples."""
        device = self._like.device
        # a device such as Apple's GPU has no float64
        kind = torch.float64 if device.type in ("cpu", "cuda") else torch.float32
        self._seen = torch.zeros(2, dtype=kind, device=device)

    def _remove(self, milestone: int) -> None:
        """Remove the worst channels, until the goal of a milestone is met."""
        predictor = self._context.predictor
        self._worth = torch.where(self._kept, self._criterion.scores(), self._worth)
        goal_ms = self._goals[milestone - 1]
        left = self._of_kept(self._worth.numpy())
        widths = remove_worst(left, predictor.latency_ms, predictor.lattice, goal_ms)
        self._keep(widths)
        self._removed[~self._kept & (self._removed > milestone)] = milestone
        self._reached = milestone
        if self.is_finished:
            # on a coarse lattice much of the budget may be left
            widths = self._fitted(widths)
            self._keep(widths)
        self._latency_ms = predictor.one_ms(widths)
        self.milestone_ms.append(self._latency_ms)

    def _fitted(self, widths: Sequence[int]) -> list[int]:
        predictor = self._context.predictor
        return allocation.fit(
            widths,
            self.scores,
            predictor.latency_ms,
            predictor.lattice,
            self._context.target_ms,
        )

    def _keep(self, widths: Sequence[int]) -> None:
        """Keep the best channels of each group at these widths [G]."""
        worth = torch.where(self._kept, self._worth, -torch.inf)
        ranked = self.scores if self.is_finished else self._by_group(worth.numpy())
        masks = []
        for size, kept in zip(self._sizes, best_channels(ranked, widths), strict=True):
            mask = np.zeros(size, bool)
            mask[kept] = True
            masks.append(mask)
        self._kept = torch.from_numpy(np.concatenate(masks))

    def _of_kept(self, values: Floats) -> list[Floats]:
        """Values of the channels that are still there [G][n]."""
        pairs = zip(self._by_group(values), self._by_group(self._kept.numpy()), strict=True)
        return [part[kept] for part, kept in pairs]

    def _by_group(self, values: Any) -> list[Any]:
        return np.split(values, np.cumsum(self._sizes)[:-1])

    def _set(self, on: Tensor) -> None:
        """Switch on these channels [N] only."""
        self._gates.set(torch.split(on.to(self._like), self._sizes))

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        criterion = {f"dcp.criterion.{k}": v for k, v in self._criterion.state().items()}
        tensors = {
            "dcp.kept": self._kept,
            "dcp.worth": self._worth,
            "dcp.removed": self._removed,
            "dcp.generator": self._generator.get_state(),
        }
        values = {
            "done": self._done,
            "reached": self._reached,
            "latency_ms": self._latency_ms,
            "milestone_ms": self.milestone_ms,
        }
        return tensors | criterion, values

    def restore(self, tensors: Tensors, values: dict[str, Any]) -> None:
        start = "dcp.criterion."
        self._criterion.restore(
            {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        )
        self._kept = tensors["dcp.kept"]
        self._worth = tensors["dcp.worth"]
        self._removed = tensors["dcp.removed"]
        self._generator.set_state(tensors["dcp.generator"])
        self._done = values["done"]
        self._reached = values["reached"]
        self._latency_ms = values["latency_ms"]
        self.milestone_ms = values["milestone_ms"]
        self._set(self._kept)
