"""Phases of training, whose options differ."""

from __future__ import annotations

from dataclasses import dataclass

from pruning_client.training import schedules
from pruning_client.training.schedules import Schedule

#: Multiplier of the seed in the order of the images, different from that of joint training.
_ORDER = 7919


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Options that differ between joint training with gates and fine-tuning."""

    #: Name in progress and history.
    name: str = "fine-tune"
    #: Name of the checkpoint in the journal.
    checkpoint: str = "fine-tune"
    epochs: int
    #: Peak learning rate of the default optimiser, SGD; None for `automatic_rate`.
    lr: float | None
    #: Factor of that rate.
    lr_share: float = 1.0
    momentum: float
    weight_decay: float
    schedule: Schedule = schedules.cosine
    #: Whether every second epoch imitates the teacher on mixed images.
    mixes: bool = False
    #: Multiplier of the seed in the order of the images.
    order: int = _ORDER
    #: Steps between entries of the history within an epoch; None for one entry per epoch.
    report_every: int | None = None
    #: Weight of the latest loss in the reported exponential mean; None for the epoch's mean.
    loss_weight: float | None = None
