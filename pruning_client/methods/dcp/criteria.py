"""The two criteria: what each channel is worth to the accuracy of a batch, estimated while channels
are switched off at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from pruning_client.execution.journal import Tensors
from pruning_client.methods.dcp.options import CriterionNumber

#: Steps of memory in the authors' code [code]: a decay of .9997, and of .1 ** (1 / 3000).
_MEMORY_1 = 1 / (1 - 0.9997)
_MEMORY_2 = 3000.0


class Criterion(Protocol):
    """Running estimate of what each of N channels is worth."""

    def add(self, gates: Tensor, accuracies: Sequence[float]) -> None:
        """Add a step.

        Args:
            gates: Channels that were on in each pass of its batch [K, N], bool.
            accuracies: Accuracy in each pass [K].
        """

    def scores(self) -> Tensor:
        """What each channel is worth [N], in units of accuracy; 0 where nothing is known."""

    def state(self) -> Tensors:
        """Tensors for a checkpoint."""

    def restore(self, tensors: Tensors) -> None:
        """Restore a checkpoint."""


class ConditionalAccuracy:
    """Criterion 1: CAC_i = (A_i - E)(1 - p) / p [code].

    E is the exponential mean of the accuracy over all passes, and A_i that over the passes in which
    channel i was on. Both are divided by their weights, so that the first steps count in full
    [ours].

    Args:
        drop: Probability p with which a channel is off.
        memory: Steps over which the means are taken, 1 / (1 - decay).
        passes: Passes of each step.
    """

    def __init__(self, channels: int, drop: float, memory: float, passes: int = 1) -> None:
        self._drop = drop
        self._decay = 1 - 1 / (memory * passes)
        self._all = torch.zeros(2, 1, dtype=torch.float64)
        self._on = torch.zeros(2, channels, dtype=torch.float64)

    def add(self, gates: Tensor, accuracies: Sequence[float]) -> None:
        for on, accuracy in zip(gates, accuracies, strict=True):
            self._all = self._updated(self._all, accuracy)
            self._on = torch.where(on, self._updated(self._on, accuracy), self._on)

    def _updated(self, mean: Tensor, accuracy: float) -> Tensor:
        """Totals and weights [2, ...] after one more accuracy."""
        new = torch.tensor([[accuracy], [1.0]], dtype=torch.float64)
        return self._decay * mean + (1 - self._decay) * new

    def scores(self) -> Tensor:
        expected = self._all[0] / self._all[1].clamp_min(1e-300)
        conditional = self._on[0] / self._on[1].clamp_min(1e-300)
        known = self._on[1] > 0
        return torch.where(known, (conditional - expected) * (1 - self._drop) / self._drop, 0.0)

    def state(self) -> Tensors:
        return {"all": self._all, "on": self._on}

    def restore(self, tensors: Tensors) -> None:
        self._all = tensors["all"]
        self._on = tensors["on"]


class PairedDifference:
    """Criterion 2: the exponential mean of (d1 - d0)(a1 - a0), for gates d and accuracies a of the
    same batch in two passes [code].

    The noise of the batch cancels. The mean is divided by its weight and by the frequency
    2 p (1 - p) with which the gates differ, so that it is in units of accuracy [ours].

    Args:
        drop: Probability p with which a channel is off.
        memory: Steps after which a tenth of the weight is left: the decay is .1 ** (1 / memory).
        passes: Passes of each step; each one is paired with the one before.
    """

    def __init__(self, channels: int, drop: float, memory: float, passes: int = 2) -> None:
        self._frequency = 2 * drop * (1 - drop)
        self._decay = 0.1 ** (1 / (memory * max(1, passes - 1)))
        self._mean = torch.zeros(channels, dtype=torch.float64)
        self._weight = torch.zeros(1, dtype=torch.float64)

    def add(self, gates: Tensor, accuracies: Sequence[float]) -> None:
        passes = zip(gates.double(), accuracies, strict=True)
        for (d0, a0), (d1, a1) in pairwise(passes):
            self._mean = self._decay * self._mean + (1 - self._decay) * (d1 - d0) * (a1 - a0)
            self._weight = self._decay * self._weight + (1 - self._decay)

    def scores(self) -> Tensor:
        return self._mean / (self._weight.clamp_min(1e-300) * self._frequency)

    def state(self) -> Tensors:
        return {"mean": self._mean, "weight": self._weight}

    def restore(self, tensors: Tensors) -> None:
        self._mean = tensors["mean"]
        self._weight = tensors["weight"]


def criterion_of(
    number: CriterionNumber, channels: int, drop: float, memory: float, passes: int
) -> Criterion:
    """A criterion that has seen nothing yet."""
    kind = ConditionalAccuracy if number == 1 else PairedDifference
    return kind(channels, drop, memory, passes)


def memory_of(number: CriterionNumber, steps: int) -> float:
    """Steps of memory in a run of so many steps: those of the authors' code, but at most a quarter
    of the run [ours], which is the time before channels are first removed.
    """
    return max(1.0, min(_MEMORY_1 if number == 1 else _MEMORY_2, steps / 4))
