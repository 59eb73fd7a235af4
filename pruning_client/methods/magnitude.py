"""Baselines without training: scores from the magnitude of weights, widths from an allocator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Floats, Ints
from latency_service.spaces.plan import expand
from pruning_client.graph.space import Traced
from pruning_client.methods.allocation import ALLOCATORS, fit
from pruning_client.methods.base import LEAST_SCORE, Context, Selection, best_channels
from pruning_client.methods.gates import filters_of
from pruning_client.methods.names import AllocatorName

#: Positive scores [G][C] of a network's channels; higher = keep.
Criterion = Callable[[nn.Module, Traced], list[Floats]]
#: Orders of magnitude between the scores of a group's first and last channel in `even_scores`; with
#: more, the last ones would reach `LEAST_SCORE`.
_STEEPNESS = 10.0
_BATCH_NORMS = nn.modules.batchnorm._BatchNorm


def l1_scores(model: nn.Module, traced: Traced) -> list[Floats]:
    """Mean absolute weight of each channel's filters [G][C], summed over the members of the group.

    The criterion of Li et al., "Pruning filters for efficient ConvNets" (ICLR 2017), with a mean in
    place of the sum so that layers of different fan-in are comparable.
    """
    return _by_filters(model, traced, lambda filters: filters.abs().mean(1))


def l2_scores(model: nn.Module, traced: Traced) -> list[Floats]:
    """Root mean square weight of each channel's filters [G][C], summed over the members of the
    group.
    """
    return _by_filters(model, traced, lambda filters: filters.square().mean(1).sqrt())


def bn_scale_scores(model: nn.Module, traced: Traced) -> list[Floats]:
    """Mean absolute scale of each channel [G][C] over the batch norms of its group.

    The criterion of Liu et al., "Learning efficient convolutional networks through network
    slimming" (ICCV 2017), without the training with a sparsity penalty. A group without batch norms
    is ranked by `l2_scores` [ours].
    """
    totals = _zeros(traced)
    seen = [0] * len(traced.space.groups)
    for group, channels, values in _along_channels(
        model, traced, lambda module, _weight: _is_batch_norm(module)
    ):
        np.add.at(totals[group], channels, np.abs(values).sum(axis=1))
        seen[group] += 1
    filters = l2_scores(model, traced)
    return [
        total / count if count else other
        for total, count, other in zip(totals, seen, filters, strict=True)
    ]


def group_norm_scores(model: nn.Module, traced: Traced) -> list[Floats]:
    """Squared weights of each channel [G][C], averaged over the layers that produce, read or
    normalise it.

    torch-pruning's ``GroupNormImportance`` (Fang et al., "DepGraph", CVPR 2023; as in the public
    code, with its defaults p = 2, mean, no biases), computed on the width groups of our own
    analysis.
    """
    totals = _zeros(traced)
    seen = [0] * len(traced.space.groups)
    for group, channels, values in _along_channels(model, traced, _counts):
        np.add.at(totals[group], channels, np.square(values).sum(axis=1))
        seen[group] += 1
    return [total / max(1, count) + LEAST_SCORE for total, count in zip(totals, seen, strict=True)]


CriterionName = Literal["l1", "l2", "bn-scale", "group-norm"]
CRITERIA: Mapping[CriterionName, Criterion] = {
    "l1": l1_scores,
    "l2": l2_scores,
    "bn-scale": bn_scale_scores,
    "group-norm": group_norm_scores,
}


@dataclass(frozen=True, kw_only=True)
class Magnitude:
    """Scores from the magnitude of each channel's weights; an allocator turns them into widths."""

    criterion: CriterionName = "l1"
    allocator: AllocatorName = "threshold"

    @property
    def name(self) -> str:
        """Name of the criterion."""
        return self.criterion

    def run(self, context: Context) -> Selection:
        """Score and allocate, then use the rest of the budget."""
        scores = CRITERIA[self.criterion](context.model, context.traced)
        return allocate(context, scores, self.allocator)


@dataclass(frozen=True, kw_only=True)
class Uniform:
    """The same share of every group; channels are ranked by `l1_scores`."""

    @property
    def name(self) -> str:
        return "uniform"

    def run(self, context: Context) -> Selection:
        """Find the largest share, then use the rest of the budget."""
        return allocate(context, l1_scores(context.model, context.traced), "uniform")


def allocate(context: Context, raw: Sequence[Floats], allocator: AllocatorName) -> Selection:
    """Widths by an allocator, then fitted to the target.

    Args:
        raw: Scores [G][C], not negative; higher = keep. They are divided by their group's mean;
            for "uniform" only their order within each group counts.
    """
    if allocator == "uniform":
        raw = even_scores(raw)
    scores = [
        np.maximum(score / max(float(score.mean()), LEAST_SCORE), LEAST_SCORE) for score in raw
    ]
    latency = context.predictor.latency_ms
    lattice = context.predictor.lattice
    widths = ALLOCATORS[allocator](scores, latency, lattice, context.target_ms)
    fitted = fit(widths, scores, latency, lattice, context.target_ms)
    return Selection(keep=best_channels(scores, fitted), scores=scores)


def even_scores(raw: Sequence[Floats]) -> list[Floats]:
    """Scores [G][C] by each channel's rank in its group, which keep widths uniform when they are
    corrected [ours].

    They fall so steeply that the group that keeps the smallest share always gains most by another
    channel. A uniform rate alone leaves much of the budget unused on a coarse lattice, where one
    more step of all groups exceeds it.
    """
    places = [np.argsort(np.argsort(-score, kind="stable")) / len(score) for score in raw]
    return [10 ** (-_STEEPNESS * place) for place in places]


def _by_filters(
    model: nn.Module, traced: Traced, magnitude: Callable[[Tensor], Tensor]
) -> list[Floats]:
    scores = _zeros(traced)
    for producer in traced.producers:
        values = magnitude(filters_of(model, producer.module).detach()).double().cpu().numpy()
        np.add.at(scores[producer.group], producer.channels, values[producer.filters])
    return scores


def _along_channels(
    model: nn.Module, traced: Traced, counts: Callable[[nn.Module, Tensor], bool]
) -> list[tuple[int, Ints, Floats]]:
    """Group, channels [P] and weights [P, ...] of each axis of a weight that follows a group.

    Args:
        counts: Whether the weight of a module is taken into account.
    """
    modules = dict(model.named_modules())
    found = []
    for entry in traced.space.manifest.slices:
        owner, _, name = entry.initializer.rpartition(".")
        module = modules.get(owner)
        weight = getattr(module, name, None)
        if module is None or name != "weight" or not torch.is_tensor(weight):
            continue
        if not counts(module, weight):
            continue
        groups, channels = expand(entry.segments)
        rows = _rows(weight.detach(), entry.axis)
        for group in np.unique(groups[groups >= 0]):
            where = groups == group
            found.append((int(group), channels[where], rows[where]))
    return found


def _rows(weight: Tensor, axis: int) -> Floats:
    """A weight as one row for each position of an axis [P, ...]."""
    rows = weight.movedim(axis, 0).flatten(1) if weight.dim() > 1 else weight[:, None]
    return np.asarray(rows.double().cpu().numpy())


def _counts(module: nn.Module, weight: Tensor) -> bool:
    return weight.dim() > 1 or _is_batch_norm(module) or isinstance(module, nn.LayerNorm)


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, _BATCH_NORMS)


def _zeros(traced: Traced) -> list[Floats]:
    return [np.full(group.width, LEAST_SCORE) for group in traced.space.groups]
