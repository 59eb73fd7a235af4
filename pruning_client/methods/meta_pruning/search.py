"""The search of one job, with its journal, progress and history, and scores for its result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from latency_service.core.arrays import Floats, Ints
from pruning_client.execution.progress import ProgressEvent
from pruning_client.latency.predictor import Predictor
from pruning_client.latency.smoothing import with_secant_gradient
from pruning_client.methods.base import Context
from pruning_client.methods.initial_widths import balanced
from pruning_client.methods.meta_pruning.encodings import Candidates, Encoding
from pruning_client.methods.meta_pruning.evolution import SearchOptions, evolve
from pruning_client.methods.meta_pruning.fitness import Fitness
from pruning_client.methods.width_grid import WidthGrid
from pruning_client.training.trainer import History

_PHASE = "search widths"


def search_widths(
    context: Context, grid: WidthGrid, fitness: Fitness, options: SearchOptions
) -> tuple[list[int], History]:
    """Widths [G] of the best candidate within the target, and an entry of the history for each
    generation.
    """
    rng = np.random.default_rng(context.training.seed)
    candidates = Candidates(grid, context.predictor.latency_ms, context.target_ms, rng)
    judging = _Judging(context, candidates, fitness, options)
    best = evolve(candidates, judging, options)
    return candidates.widths(best.encoding), judging.history


class _Judging:
    """Fitness of whole generations.

    The first process of a job evaluates; the journal hands the result to the others, and to a job
    that is resumed.
    """

    def __init__(
        self, context: Context, candidates: Candidates, fitness: Fitness, options: SearchOptions
    ) -> None:
        self._context = context
        self._candidates = candidates
        self._fitness = fitness
        self._total = options.generations * options.population
        self._done = 0
        self._best: tuple[float, Encoding] | None = None
        self.history: History = []

    def __call__(self, generation: int, born: Sequence[Encoding]) -> list[float]:
        found = self._context.journal.value(
            f"generation {generation + 1} of meta-pruning",
            list[float],
            lambda: [self._evaluate(place, one) for place, one in enumerate(born, 1)],
        )
        self._done += len(born)
        self._remember(found, born)
        self._record(generation)
        return found

    def _evaluate(self, place: int, encoding: Encoding) -> float:
        value = self._fitness(self._candidates.widths(encoding))
        self._report(self._done + place)
        return value

    def _report(self, done: int) -> None:
        figures = {} if self._best is None else {"best": self._text(self._best[0])}
        self._context.progress(
            ProgressEvent(
                phase=_PHASE, done=done, total=self._total, unit="candidates", figures=figures
            )
        )

    def _text(self, fitness: float) -> str:
        return f"{fitness:.1f} %" if self._fitness.is_quality else f"loss {-fitness:.3f}"

    def _remember(self, found: Sequence[float], born: Sequence[Encoding]) -> None:
        first = max(range(len(found)), key=lambda index: found[index])
        if self._best is None or found[first] > self._best[0]:
            self._best = found[first], born[first]

    def _record(self, generation: int) -> None:
        assert self._best is not None, "a generation has been evaluated"
        fitness, encoding = self._best
        quality = {"accuracy": fitness} if self._fitness.is_quality else {"loss": -fitness}
        latency_ms = self._context.predictor.one_ms(self._candidates.widths(encoding))
        entry = {"phase": _PHASE, "step": generation + 1, "latency_ms": latency_ms}
        self.history.append(entry | quality)


def front_scores(
    order: Sequence[Ints], widths: Sequence[int], predictor: Predictor
) -> list[Floats]:
    """Scores [G][C] in the order of the channels, such that at `widths` [G] a millisecond has the
    same price in every group [ours].

    They fall exponentially, with the width as the scale: where widths are corrected, groups change
    in proportion.

    Args:
        order: Channels of each group, the one that is removed last first [G][C].
    """
    at = torch.tensor(widths, dtype=torch.float32, requires_grad=True)
    (slopes,) = torch.autograd.grad(with_secant_gradient(predictor)(at), at)
    falling = [
        np.exp(-np.argsort(channels) / width) for channels, width in zip(order, widths, strict=True)
    ]
    return balanced(falling, widths, slopes.double().numpy(), predictor.lattice)
