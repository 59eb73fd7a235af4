"""Initial widths of the gates: the proposal whose outputs are nearest to the dense network's, with
removal costs balanced there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from latency_service.core.arrays import Floats, Ints
from pruning_client.data.batch import Batch
from pruning_client.errors import BudgetError
from pruning_client.execution import distributed
from pruning_client.execution.copies import copied
from pruning_client.execution.progress import ProgressEvent
from pruning_client.latency.predictor import Predictor
from pruning_client.latency.smoothing import REACH
from pruning_client.methods import allocation
from pruning_client.methods.allocation import Lattice
from pruning_client.methods.base import Context, best_channels
from pruning_client.methods.gates import BAND, Gates, masks
from pruning_client.training.batch_norm import batch_norms, is_frozen
from pruning_client.training.outputs import output_distance

#: Number of training images on which outputs are compared, in whole batches.
IMAGES = 256
#: Images that the search may run the network on, as a share of those that training sees.
_SHARE = 1 / 2
#: Smallest and largest move of a group in the search, as shares of its full width.
_NEAREST = 1 / 12
_FURTHEST = 1 / 2
#: Maximum number of width vectors that the network is run with.
_MOST_RUN = 150
#: Maximum number of moves considered for each width vector that is run.
_MOVES_EACH = 4
_PHASE = "search initial widths"


def initial_widths(context: Context, costs: Sequence[Floats], *, images: int) -> list[int]:
    """Widths [G] within the target whose outputs, without any training, are nearest to those of the
    dense network.

    A removal cost is that of one channel alone; several channels together cost more than the sum,
    in some groups far more. So allocators A, B and C each propose widths by the costs, and the
    network is run with each of them. From the nearest a local search goes on: one group is made
    wider or narrower, and the others follow by the costs [ours]. The search runs the network on at
    most half as many images as training sees.

    Args:
        costs: Removal costs [G][C].
        images: Number of images that training sees, counted once for each epoch.

    Raises:
        BudgetError: No widths on the lattice meet the target.
    """
    proposer = _Proposer(context, costs)
    distance = OutputDistance(context)
    distances = {
        widths: distance(best_channels(proposer.costs, widths)) for widths in proposer.proposals()
    }
    best = min(distances, key=lambda widths: distances[widths])
    rng = np.random.default_rng(context.training.seed)
    most = min(_MOST_RUN, int(_SHARE * images / distance.images))
    for _ in range(_MOVES_EACH * most):
        if len(distances) >= most:
            break
        moved = proposer.moved(best, rng)
        if moved is not None and moved not in distances:
            distances[moved] = distance(best_channels(proposer.costs, moved))
            best = min(best, moved, key=lambda widths: distances[widths])
            context.progress(
                ProgressEvent(phase=_PHASE, done=len(distances), total=most, unit="width vectors")
            )
    return list(best)


class _Proposer:
    """Width vectors that meet the target, by the removal costs of channels."""

    def __init__(self, context: Context, costs: Sequence[Floats]) -> None:
        self.costs = list(costs)
        self._latency = context.predictor.latency_ms
        self._lattice = context.predictor.lattice
        self._target_ms = context.target_ms

    def proposals(self) -> list[tuple[int, ...]]:
        """The widths [G] of each allocator."""
        return [
            self._fitted(
                allocate(self.costs, self._latency, self._lattice, self._target_ms), self._lattice
            )
            for allocate in allocation.ALLOCATORS.values()
        ]

    def moved(self, widths: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...] | None:
        """Widths [G] with one random group made wider or narrower, or None if none meet the
        target.
        """
        group = int(rng.integers(len(self._lattice)))
        choices = np.asarray(self._lattice[group])
        away = np.abs(choices - widths[group]) / choices[-1]
        others = choices[(away >= _NEAREST) & (away <= _FURTHEST)]
        if not len(others):
            return None
        moved = list(widths)
        moved[group] = int(rng.choice(others))
        fixed = list(self._lattice)
        fixed[group] = [moved[group]]
        try:
            return self._fitted(moved, fixed)
        except BudgetError:
            return None

    def _fitted(self, widths: Sequence[int], lattice: Lattice) -> tuple[int, ...]:
        return tuple(allocation.fit(widths, self.costs, self._latency, lattice, self._target_ms))


class OutputDistance:
    """Distance (`output_distance`) between a network's outputs with some channels closed and with
    all of them open.

    Batch norms that are not frozen use the statistics of each batch, as after a recalibration. The
    network itself does not change.
    """

    def __init__(self, context: Context) -> None:
        model = copied(context.model).eval()
        self._context = context
        self._gates = Gates(model, context.traced)
        self._sizes = [group.width for group in context.traced.space.groups]
        device = next(model.parameters()).device
        batches = _first_batches(context)
        #: Number of images on which outputs are compared, in all processes.
        self.images = sum(map(len, batches))
        self._batches = [
            batch.part(distributed.share(len(batch))[0]).to(device) for batch in batches
        ]
        with torch.no_grad():
            self._outputs = [model(*batch.inputs) for batch in self._batches]
        for norm in batch_norms(model):
            norm.train(not is_frozen(norm))
        self._model = model

    @torch.no_grad()
    def __call__(self, keep: Sequence[Ints]) -> float:
        """Mean distance over the images with only the channels `keep` [G][width] open."""
        self._gates.set(masks(keep, self._sizes, self._model))
        total = torch.zeros(2, device=self._batches[0].inputs[0].device)
        with self._gates.attached():
            for batch, dense in zip(self._batches, self._outputs, strict=True):
                outputs = self._model(*batch.inputs)
                distance = output_distance(self._context.training, outputs, dense, batch.target)
                if distance is not None:
                    total += len(batch) * torch.stack([distance, torch.ones_like(distance)])
        distributed.average(total)
        return float(total[0] / total[1].clamp_min(1))


def _first_batches(context: Context) -> list[Batch]:
    """Shuffled training batches with `IMAGES` images, or all."""
    found: list[Batch] = []
    for batch in islice(context.train.shuffled(context.training.seed), len(context.train)):
        found.append(batch)
        if sum(map(len, found)) >= IMAGES:
            break
    return found


def initial_scores(
    costs: Sequence[Floats], predictor: Predictor, widths: Sequence[int]
) -> list[Tensor]:
    """Scores [G][C] within `BAND`, in the order in which channels are removed by cost per
    millisecond; negative for the channels that `widths` [G] leave out.
    """
    order = allocation.removal_order(costs, predictor.latency_ms, predictor.lattice, widths)
    places = [torch.as_tensor(place + 0.5) for place in order]
    first = min(float(place.min()) for place in places)
    last = max(float(place.max()) for place in places)
    return [BAND * torch.where(p < 0, -p / first, p / last) for p in places]


def balanced(
    costs: Sequence[Floats], widths: Sequence[int], slopes: Floats, lattice: Lattice
) -> list[Floats]:
    """Costs [G][C] scaled by group such that at `widths` [G] a millisecond has the same price in
    every group.

    Unscaled, the costs would favour other widths. Costs of a group at its full width are only
    raised, those of a group at its narrowest only lowered.

    Args:
        slopes: Secant gradient of the latency [G], ms per channel. Costs of a group whose slope is
            not positive are not scaled.
    """
    places = [list(choices).index(width) for choices, width in zip(lattice, widths, strict=True)]
    prices = np.array(
        [
            _price(cost, slope, choices, at)
            for cost, slope, choices, at in zip(costs, slopes, lattice, places, strict=True)
        ]
    )
    known = np.isfinite(prices)
    scale = np.ones(len(costs))
    if known.any():
        lowest = [
            float(at == len(choices) - 1) for at, choices in zip(places, lattice, strict=True)
        ]
        highest = [1.0 if at == 0 else np.inf for at in places]
        factors = np.median(prices[known]) / prices[known]
        scale[known] = np.clip(factors, np.array(lowest)[known], np.array(highest)[known])
    return [cost * factor for cost, factor in zip(costs, scale, strict=True)]


def _price(cost: Floats, slope: float, choices: Sequence[int], at: int) -> float:
    """Mean cost per millisecond of the channels around a place on the lattice; NaN where the
    latency does not rise.
    """
    low = choices[max(at - REACH, 0)]
    high = choices[min(at + REACH, len(choices) - 1)]
    around = np.sort(cost)[::-1][low:high]
    return float(around.mean() / slope) if slope > 0 and len(around) else np.nan
