"""The user's own way of training: each part replaces the default one, in joint training with gates
and in fine-tuning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler


class GateTraining(Protocol):
    """Gates in training beside the weights of a network, as a training loop of the user's own calls
    them.

    ::

        def train(model: nn.Module, gates: GateTraining) -> None:
            optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
            while gates.done < gates.steps:
                for images, labels in loader:
                    optimiser.zero_grad()
                    (my_loss(model(images), labels) + gates.loss()).backward()
                    optimiser.step()
                    gates.step()

    The forward pass of `model` is gated while `train` runs. For the last part of the steps the
    gates are frozen, on widths that meet the target; a loop that ends early freezes them where it
    ends.
    """

    @property
    def steps(self) -> int:
        """Number of steps to take."""

    @property
    def done(self) -> int:
        """Number of steps taken so far."""

    @property
    def frozen(self) -> bool:
        """Whether the widths are decided."""

    def loss(self) -> Tensor:
        """The gates' term [] of this step's loss; zero once they are frozen."""

    def step(self) -> None:
        """Move the gates, once per batch and after the optimiser's own step."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How networks are trained. A part that is not given is the default of `Training`."""

    #: loss [] of the network's outputs and the labels, a mean over the batch
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    #: optimiser of the network at hand: the dense one for its training with gates, the small one
    #: for fine-tuning
    optimiser: Callable[[nn.Module], torch.optim.Optimizer] | None = None
    #: schedule of an optimiser for the number of steps to come; stepped after every batch
    schedule: Callable[[torch.optim.Optimizer, int], LRScheduler] | None = None
    #: quality of a network in per cent, higher is better; by default top-1 accuracy on the held-out
    #: images. With it the network need not be a classifier.
    evaluate: Callable[[nn.Module], float] | None = None
    #: whole loop that trains the gated network in place; see `GateTraining` for what it calls
    train: Callable[[nn.Module, GateTraining], None] | None = None
    #: whole loop that fine-tunes the small network in place, called with it and the dense network
    finetune: Callable[[nn.Module, nn.Module], None] | None = None
