"""Learning rate schedules, as torch schedulers."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from pruning_client.training.hooks import Recipe

#: Factor of the peak learning rate, given the number of steps taken and the total.
Schedule = Callable[[int, int], float]
#: Total number of steps divided by the number of warm-up steps.
_WARM_UP = 20
#: Factor at the end of the cosine.
_LOWEST = 0.01


def constant(done: int, total: int) -> float:
    """Linear warm-up, then the peak rate until the end."""
    return min(1.0, (done + 1) / _warm_up_steps(total))


def cosine(done: int, total: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak rate."""
    warm = _warm_up_steps(total)
    past = max(0, done - warm) / max(1, total - warm)
    falling = _LOWEST + (1 - _LOWEST) * 0.5 * (1 + math.cos(math.pi * past))
    return constant(done, total) * falling


def scheduler(recipe: Recipe, schedule: Schedule, optimiser: Optimizer, steps: int) -> LRScheduler:
    """The recipe's scheduler; by default `schedule`, or a constant rate for the recipe's own
    optimiser.
    """
    total = max(1, steps)
    if recipe.schedule is not None:
        return recipe.schedule(optimiser, total)
    if recipe.optimiser is not None:
        return LambdaLR(optimiser, lambda _done: 1.0)
    return LambdaLR(optimiser, lambda done: schedule(done, total))


def _warm_up_steps(total: int) -> int:
    return max(1, total // _WARM_UP)
