"""Parts of training that a user can replace, in joint training with gates and in fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler

from pruning_client.errors import UsageError

#: What a network's outputs are.
OutputKind = Literal["auto", "classes", "values"]


class Metric(Protocol):
    """Quality of a network over many batches."""

    def update(self, outputs: Any, target: Any) -> None:
        """Add a batch: the network's outputs in eval mode, and the target."""

    def value(self) -> float:
        """Quality of what was added, per cent; higher is better."""


class GateTraining(Protocol):
    """Gates that are trained together with the weights, as called by a user's own training loop.

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
    gates are frozen, at widths that meet the target. A loop that ends early freezes them when it
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
        """Update the gates; call it once per batch, after the optimiser's own step."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """User's own parts of training; a part that is not given is the default of `Training`."""

    #: Loss [] of the network's outputs and the labels, a mean over the batch.
    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    #: Optimiser of a network: the dense one in joint training with gates, the small one in
    #: fine-tuning.
    optimiser: Callable[[nn.Module], torch.optim.Optimizer] | None = None
    #: Scheduler of an optimiser, given the number of steps; stepped after every batch.
    schedule: Callable[[torch.optim.Optimizer, int], LRScheduler] | None = None
    #: What the outputs are, which decides how they are imitated in distillation: class scores
    #: [B, classes, ...] or other values; by default found from loss and labels.
    outputs: OutputKind = "auto"
    #: Measure of quality on the held-out data, created for each evaluation; by default top-1
    #: accuracy.
    metric: Callable[[], Metric] | None = None
    #: Quality of a network in per cent, higher is better, in place of `metric` on the held-out
    #: data. If one of the two is given, the network need not be a classifier.
    evaluate: Callable[[nn.Module], float] | None = None
    #: Loop that trains the gated network in place, with the calls shown in `GateTraining`.
    train: Callable[[nn.Module, GateTraining], None] | None = None
    #: Loop that fine-tunes the small network in place, given the small and the dense network.
    finetune: Callable[[nn.Module, nn.Module], None] | None = None

    def __post_init__(self) -> None:
        """Refuse parts that cannot be called.

        Raises:
            UsageError: One cannot, or the metric is an object where a class is meant.
        """
        for name in ("loss", "optimiser", "schedule", "metric", "evaluate", "train", "finetune"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise UsageError(
                    f"`Recipe({name}=...)` is {type(value).__name__}, which cannot be called.",
                    "Give a function.",
                )
        if not isinstance(self.metric, type) and hasattr(self.metric, "update"):
            raise UsageError(
                f"`Recipe(metric=...)` is an object of {type(self.metric).__name__}.",
                "Give its class, or a function that makes one: each evaluation has its own.",
            )
        if self.outputs not in get_args(OutputKind):
            raise UsageError(
                f"There are no outputs {self.outputs!r}.",
                f"Give one of {', '.join(get_args(OutputKind))}.",
            )

    @property
    def measures_accuracy(self) -> bool:
        """Whether quality is top-1 accuracy, for which outputs must be class scores."""
        return self.evaluate is None and self.metric is None
