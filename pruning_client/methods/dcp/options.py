"""Options of pruning during one training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pruning_client.errors import UsageError
from pruning_client.training import schedules
from pruning_client.training.schedules import Schedule

CriterionNumber = Literal[1, 2]
StartName = Literal["dense", "scratch"]

#: Default epochs and peak learning rates, by start [ours].
_EPOCHS = {"dense": 6, "scratch": 40}
_RATES = {"dense": 0.01, "scratch": 0.1}
#: Default numbers of passes of each batch, by criterion [ours].
_DRAWS = {1: 4, 2: 2}
#: Fewest numbers of passes with which a criterion is defined.
_FEWEST_DRAWS = {1: 1, 2: 2}


@dataclass(frozen=True, kw_only=True)
class DcpOptions:
    """Pruning during one training run."""

    #: Estimate of a channel's worth: 1 compares the accuracy of the steps in which it is on with
    #: that of all steps, 2 compares two passes of the same batch.
    criterion: CriterionNumber = 1
    #: Weights to begin with: those of the dense network, or new ones.
    start: StartName = "dense"
    #: Epochs of the training run, before fine-tuning. Defaults: 6 where it starts with the dense
    #: network, 40 where it starts with new weights.
    epochs: int | None = None
    #: Number of times that channels are removed.
    milestones: int = 10
    #: Probability with which a channel is switched off in a pass.
    drop: float = 0.05
    #: Forward passes of each batch before the last milestone, each with its own channels switched
    #: off; all but one have no gradients. By default 4 for criterion 1, where the paper has 1,
    #: which is too noisy for short runs, and 2 for criterion 2, as in the paper.
    draws: int | None = None
    #: Steps over which the estimates are averaged; by default those of the authors' code, but at
    #: most a quarter of the run.
    memory: float | None = None
    #: Peak learning rate of SGD; by default 0.01 from the dense network, constant until fine-tuning
    #: lowers it, and 0.1 from new weights, with a cosine schedule.
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: An option is out of range.
        """
        fewest = _FEWEST_DRAWS.get(self.criterion, 0)
        required = {
            "criterion": (self.criterion in _FEWEST_DRAWS, "1 or 2"),
            "start": (self.start in _EPOCHS, "'dense' or 'scratch'"),
            "epochs": (self.epochs is None or self.epochs >= 1, "at least 1"),
            "milestones": (self.milestones >= 1, "at least 1"),
            "drop": (0 < self.drop < 1, "between 0 and 1"),
            "draws": (self.draws is None or self.draws >= fewest, f"at least {fewest}"),
            "memory": (self.memory is None or self.memory >= 1, "at least 1"),
        }
        for name, (is_met, wanted) in required.items():
            if not is_met:
                raise UsageError(
                    f"The option {name} of DCP is {getattr(self, name)!r}.", f"Give {wanted}."
                )

    @property
    def training_epochs(self) -> int:
        return _EPOCHS[self.start] if self.epochs is None else self.epochs

    @property
    def rate(self) -> float:
        """Peak learning rate."""
        return _RATES[self.start] if self.lr is None else self.lr

    @property
    def schedule(self) -> Schedule:
        """Schedule of the learning rate."""
        return schedules.constant if self.start == "dense" else schedules.cosine

    @property
    def passes(self) -> int:
        """Number of forward passes of each batch."""
        return _DRAWS[self.criterion] if self.draws is None else self.draws
