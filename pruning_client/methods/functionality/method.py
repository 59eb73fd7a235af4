"""Functionality-oriented pruning (Qin et al., "Functionality-oriented convolutional filter
pruning", arXiv 1810.07322; "Interpretable convolutional filter pruning", arXiv 1811.02639).

The idea is the papers': filters of repeated functions are redundant, whatever their magnitude. The
details are reconstructions or our own, as marked in docs/explanation/methods.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from latency_service.core.arrays import Floats, Ints
from pruning_client.errors import UsageError
from pruning_client.execution.copies import copied
from pruning_client.execution.progress import ProgressEvent
from pruning_client.methods.allocation import (
    Lattice,
    check_reachable,
    fit,
    round_up,
    smallest_share,
)
from pruning_client.methods.base import Context, Fact, Picture, Problem, Selection, best_channels
from pruning_client.methods.functionality import clusters, pictures
from pruning_client.methods.functionality.contribution import contributions
from pruning_client.methods.functionality.patterns import (
    changed_input,
    find_patterns,
    patterns_by_channel,
)
from pruning_client.methods.gates import Gates, masks, scored_layers
from pruning_client.methods.magnitude import l1_scores
from pruning_client.methods.ordering import in_order
from pruning_client.training.batch_norm import recalibrate_batch_norm

_PHASE = "functionality"


@dataclass(frozen=True, kw_only=True)
class Functionality:
    """Clusters of filters that are excited by the same pattern lose their least contributors."""

    #: Number of clusters of a group, as a share of its channels. It is halved until the budget can
    #: be met.
    clusters: float = 0.5
    #: Steps of gradient ascent for each filter.
    steps: int = 32
    #: Training batches to estimate contributions on.
    batches: int = 10

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UsageError: One of them has no meaning.
        """
        if not 0 < self.clusters <= 1 or self.steps < 1 or self.batches < 1:
            raise UsageError(
                f"Functionality(clusters={self.clusters}, steps={self.steps}, "
                f"batches={self.batches}) has no meaning.",
                "Give a share in (0, 1] and positive numbers.",
            )

    @property
    def name(self) -> str:
        return "functionality"

    def check(self, problem: Problem) -> None:
        """Check that an input of the network can be changed by its gradient.

        Raises:
            UsageError: It cannot.
        """
        changed_input(problem.traced.example)

    def run(self, context: Context) -> Selection:
        """Cluster filters by their patterns, and remove the same level of every cluster.

        Raises:
            BudgetError: No widths on the lattice meet the target.
            UsageError: See `check`.
        """
        self.check(context)
        predictor = context.predictor
        check_reachable(predictor.latency_ms, predictor.lattice, context.target_ms)
        patterns = find_patterns(context, self.steps)
        contribution = contributions(context, self.batches)
        plan = self._plan(context, _points(context, patterns), contribution)
        values = [value / max(float(value.mean()), 1e-30) for value in contribution]
        scores = [
            in_order(value, clusters.keeping_order(level, own))
            for value, level, own in zip(values, plan.levels, contribution, strict=True)
        ]
        widths = fit(plan.widths, scores, predictor.latency_ms, plan.lattice, context.target_ms)
        keep = best_channels(scores, widths)
        facts, history = _without_training(context, keep)
        return Selection(
            keep=keep,
            scores=scores,
            history=history,
            facts={**plan.facts(), **facts},
            pictures=_pictures(context, patterns, plan, keep),
        )

    def _plan(
        self, context: Context, points: Sequence[Floats], contribution: Sequence[Floats]
    ) -> _Plan:
        """The plan of most clusters that meets the target."""
        share = self.clusters
        while True:
            plan = _Plan.of(context, points, contribution, share)
            if plan.meets_target or plan.is_narrowest(context):
                return plan
            share /= 2


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Clusters of every group, and the level at which the target is met."""

    #: Cluster of each channel [G][C].
    labels: list[Ints]
    #: Level at which each channel is removed [G][C].
    levels: list[Floats]
    #: Widths of the predictor's lattice with at least one channel for each cluster.
    lattice: list[list[int]]
    level: float
    widths: list[int]
    meets_target: bool

    @classmethod
    def of(
        cls,
        context: Context,
        points: Sequence[Floats],
        contribution: Sequence[Floats],
        share: float,
    ) -> _Plan:
        """Bisect the level with as many clusters as a share of the channels."""
        seed = context.training.seed % 2**32
        labels = [
            clusters.k_means(rows, clusters.cluster_count(len(rows), share), seed)
            for rows in points
        ]
        levels = [
            clusters.removal_levels(label, own)
            for label, own in zip(labels, contribution, strict=True)
        ]
        lattice = _above(context.predictor.lattice, [int(label.max()) + 1 for label in labels])

        def at(level: float) -> list[int]:
            return round_up([float((own > level + 1e-9).sum()) for own in levels], lattice)

        latency = context.predictor.latency_ms
        level, widths = smallest_share(at, latency, lattice, context.target_ms)
        meets = float(latency([widths])[0]) <= context.target_ms
        return cls(
            labels=labels,
            levels=levels,
            lattice=lattice,
            level=level,
            widths=widths,
            meets_target=meets,
        )

    def is_narrowest(self, context: Context) -> bool:
        """Whether fewer clusters allow no narrower architecture."""
        return all(
            own[0] == choices[0]
            for own, choices in zip(self.lattice, context.predictor.lattice, strict=True)
        )

    def facts(self) -> dict[str, Fact]:
        return {
            "filters": sum(len(label) for label in self.labels),
            "clusters": sum(int(label.max()) + 1 for label in self.labels),
            "level removed of each cluster": self.level,
        }


def _above(lattice: Lattice, least: Sequence[int]) -> list[list[int]]:
    """Widths of a lattice at or above the least width [G]."""
    return [[width for width in choices if width >= least[g]] for g, choices in enumerate(lattice)]


def _points(context: Context, patterns: dict[str, torch.Tensor]) -> list[Floats]:
    """Coordinates [G][C, C] of the channels' patterns, those of several member layers side by side
    [ours].
    """
    found: list[Floats] = []
    layers = scored_layers(context.traced.producers)
    for g, group in enumerate(context.traced.space.groups):
        rows = [
            patterns_by_channel(producer, patterns[producer.module], group.width)
            for producer in layers
            if producer.group == g
        ]
        joined = torch.cat(rows, dim=1).double().numpy() if rows else np.zeros((group.width, 1))
        found.append(clusters.coordinates(joined))
    return found


def _without_training(
    context: Context, keep: Sequence[Ints]
) -> tuple[dict[str, Fact], list[dict[str, Any]]]:
    """Accuracy without fine-tuning, beside that of L1 at the same widths."""
    if context.evaluate is None:
        return {}, []
    widths = [len(kept) for kept in keep]
    by_magnitude = best_channels(l1_scores(context.model, context.traced), widths)
    own = _recalibrated_accuracy(context, keep, 1)
    theirs = _recalibrated_accuracy(context, by_magnitude, 2)
    facts: dict[str, Fact] = {
        "accuracy without fine-tuning, %": own,
        "accuracy of L1 at the same widths without fine-tuning, %": theirs,
    }
    entry = {"phase": _PHASE, "step": 1, "accuracy": own, "accuracy_of_l1": theirs}
    return facts, [entry]


def _recalibrated_accuracy(context: Context, keep: Sequence[Ints], number: int) -> float:
    """Accuracy, per cent, with only the channels to keep, after recalibration of batch norms."""
    assert context.evaluate is not None
    model = copied(context.model).eval()
    gates = Gates(model, context.traced)
    gates.set(masks(keep, [group.width for group in context.traced.space.groups], model))
    training = context.training
    with gates.attached():
        recalibrate_batch_norm(
            model, context.train, batches=training.recalibration_batches, seed=training.seed
        )
        percent = context.evaluate(model)
    context.progress(
        ProgressEvent(phase="accuracy without fine-tuning", done=number, total=2, unit="networks")
    )
    return percent


def _pictures(
    context: Context, patterns: dict[str, torch.Tensor], plan: _Plan, keep: Sequence[Ints]
) -> list[Picture]:
    """Pictures of a few groups, with the patterns of the first layer of each."""
    layers = scored_layers(context.traced.producers)
    found = []
    for g in pictures.shown_groups(len(keep)):
        producer = next(producer for producer in layers if producer.group == g)
        own = patterns[producer.module]
        rows = patterns_by_channel(producer, own, len(plan.labels[g]))
        shown = rows.view(len(rows), *own.shape[1:]).double().cpu().numpy()
        if pictures.are_images(shown):
            found.append(pictures.picture_of(producer.module, shown, plan.labels[g], keep[g]))
    return found
