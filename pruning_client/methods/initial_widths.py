"""Initial widths of gates: those of several proposals whose outputs are nearest to the dense
network's, and removal costs in balance there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Floats, Ints
from pruning_client.errors import BudgetError
from pruning_client.execution import distributed
from pruning_client.latency.predictor import Predictor
from pruning_client.latency.smoothing import REACH
from pruning_client.methods import allocation
from pruning_client.methods.allocation import Lattice
from pruning_client.methods.base import Context, best_channels
from pruning_client.methods.gates import BAND, Gates, masks
from pruning_client.methods.removal_costs import gives_classes
from pruning_client.training.losses import distillation_loss, softening

#: Batches of training data whose answers are compared.
BATCHES = 2
#: A group's moves in the search for the widths to start at, as shares of its full width.
_NEAREST = 1 / 12
_FURTHEST = 1 / 2
#: Widths that the network is asked about at most, and moves that are thought of for each of them.
_ASKED = 150
_TRIED = 4


def start_widths(context: Context, costs: Sequence[Floats], *, steps: int) -> list[int]:
    """Widths [G] within the target whose answers, with no training at all, are nearest to the dense
    network's.

    Removal costs are of one channel alone; what many cost together is more than their sum, and in
    some groups far more. So allocators A, B and C each propose widths by the costs, the network is
    asked, and from the nearest it is asked on: one group wider or narrower, the others by the
    costs, as long as that brings answers nearer [ours]. All of it runs the network forward at most
    as often as the gates have steps.

    Args:
        steps: of joint training with gates.

    Raises:
        BudgetError: no widths on the lattice reach the target.
    """
    predictor = context.predictor
    target_ms = context.target_ms
    latency = predictor.latency_ms
    lattice = predictor.lattice
    scores = list(costs)
    distance = AnswerDistance(context)

    def asked(widths: Sequence[int]) -> float:
        return distance(best_channels(scores, widths))

    proposals = [
        allocation.fit(
            propose(scores, latency, lattice, target_ms), scores, latency, lattice, target_ms
        )
        for propose in allocation.ALLOCATORS.values()
    ]
    known = {tuple(widths): asked(widths) for widths in proposals}
    best = min(known, key=lambda widths: known[widths])
    rng = np.random.default_rng(context.training.seed)
    most = min(_ASKED, steps // BATCHES)
    for _ in range(_TRIED * most):
        if len(known) >= most:
            break
        moved = _moved(best, rng, scores, latency, lattice, target_ms)
        if moved is not None and moved not in known:
            known[moved] = asked(moved)
            best = min(best, moved, key=lambda widths: known[widths])
    return list(best)


def _moved(
    widths: tuple[int, ...],
    rng: np.random.Generator,
    scores: list[Floats],
    latency: allocation.Latency,
    lattice: Lattice,
    target_ms: float,
) -> tuple[int, ...] | None:
    """Widths within the target with one group, whichever, made wider or narrower; nothing where
    there are none.
    """
    group = int(rng.integers(len(lattice)))
    choices = np.asarray(lattice[group])
    away = np.abs(choices - widths[group]) / choices[-1]
    others = choices[(away >= _NEAREST) & (away <= _FURTHEST)]
    if not len(others):
        return None
    wanted = list(widths)
    fixed = list(lattice)
    wanted[group] = int(rng.choice(others))
    fixed[group] = [wanted[group]]
    try:
        return tuple(allocation.fit(wanted, scores, latency, fixed, target_ms))
    except BudgetError:
        return None


class AnswerDistance:
    """How far a network's answers on some training images go from its own when channels are closed.

    Of a classifier the distillation loss, of others the mean squared distance relative to the
    spread of the answers. Batch norms take the statistics of each batch, as after a recalibration;
    the network itself is left alone.
    """

    def __init__(self, context: Context) -> None:
        model = copy.deepcopy(context.model).eval()
        self._context = context
        self._gates = Gates(model, context.traced)
        self._sizes = [group.width for group in context.traced.space.groups]
        device = next(model.parameters()).device
        batches = islice(context.train.shuffled(context.training.seed), BATCHES)
        self._images = [
            distributed.shard(images.to(device), labels)[0] for images, labels in batches
        ]
        with torch.no_grad():
            self._answers = [model(images) for images in self._images]
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
        self._model = model

    @torch.no_grad()
    def __call__(self, keep: Sequence[Ints]) -> float:
        """Mean distance over the images where only the channels `keep` [G][width] are open."""
        self._gates.set(masks(keep, self._sizes, self._model))
        total = torch.zeros(2, device=self._images[0].device)
        with self._gates.attached():
            for images, answers in zip(self._images, self._answers, strict=True):
                distance = self._distance(self._model(images), answers)
                total += len(images) * torch.stack([distance, torch.ones_like(distance)])
        distributed.average(total)
        return float(total[0] / total[1].clamp_min(1))

    def _distance(self, answer: Any, wanted: Any) -> Tensor:
        if gives_classes(self._context, answer):
            return distillation_loss(answer, wanted, softening(self._context.training))
        pairs = zip(
            *(torch.utils._pytree.tree_flatten(one)[0] for one in (answer, wanted)), strict=True
        )
        return torch.stack(
            [_relative(a.float(), b.float()) for a, b in pairs if torch.is_tensor(a)]
        ).sum()


def initial_scores(
    costs: Sequence[Floats], predictor: Predictor, widths: Sequence[int]
) -> list[Tensor]:
    """Scores [G][C] within `BAND` in the order in which costs per millisecond would have channels
    go: below zero for those that `widths` [G] have not.
    """
    order = allocation.removal_order(costs, predictor.latency_ms, predictor.lattice, widths)
    places = [torch.as_tensor(place + 0.5) for place in order]
    first = min(float(place.min()) for place in places)
    last = max(float(place.max()) for place in places)
    return [BAND * torch.where(p < 0, -p / first, p / last) for p in places]


def _relative(answer: Tensor, wanted: Tensor) -> Tensor:
    return (answer - wanted).square().mean() / wanted.var(correction=0).clamp_min(1e-12)


def balanced(
    costs: Sequence[Floats], widths: Sequence[int], slopes: Floats, lattice: Lattice
) -> list[Floats]:
    """Costs [G][C] scaled by group, so that at `widths` [G] a millisecond costs the same in every
    group.

    By the costs as they are other widths would be better. A group at its full width is only made
    dearer, one at its narrowest only cheaper.

    Args:
        slopes: secant gradient of the latency [G], ms per channel; where it is not above zero, a
            group's costs stay as they are.
    """
    prices = np.full(len(costs), np.nan)
    limits = np.zeros((len(costs), 2))
    for g, (cost, choices) in enumerate(zip(costs, lattice, strict=True)):
        at = list(choices).index(widths[g])
        ranked = np.sort(cost)[::-1]
        around = ranked[choices[max(at - REACH, 0)] : choices[min(at + REACH, len(choices) - 1)]]
        if slopes[g] > 0 and len(around):
            prices[g] = around.mean() / slopes[g]
        limits[g] = (1.0 if at == len(choices) - 1 else 0.0, 1.0 if at == 0 else np.inf)
    known = np.isfinite(prices)
    scale = np.ones(len(costs))
    scale[known] = (
        np.clip(np.median(prices[known]) / prices[known], *limits[known].T) if known.any() else 1.0
    )
    return [cost * factor for cost, factor in zip(costs, scale, strict=True)]
