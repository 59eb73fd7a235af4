"""Options of joint training of weights and gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LossName = Literal["dual", "abs", "log1p"]


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """Joint training of weights and gates."""

    #: epochs of joint training of weights and gates
    epochs: int = 6
    #: form in which the latency enters the loss (docs/methods.md, section 1)
    loss: LossName = "dual"
    #: weight of the latency term of `abs` and `log1p`
    alpha: float = 1.0
    #: growth of the multiplier of `dual` for each relative excess and step, times the number of
    #: steps with open gates
    rho: float = 6.0
    #: weight of the squared relative excess that `dual` adds to its multiplier's term (augmented
    #: Lagrangian): keeps the latency from swinging around the budget, and from drifting below it
    damping: float = 4.0
    #: initial value of the multiplier of `dual`
    multiplier: float = 0.1
    #: learning rate of SGD on the weights, constant after a short warm-up: fine-tuning lowers it
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    #: learning rate of Adam on the gates; by default such that a score can cross a quarter of the
    #: band within the steps: gates start where the network wants them, and widths that wander cost
    #: accuracy
    gate_lr: float | None = None
    #: share of the steps, at the end, with frozen gates
    frozen_share: float = 0.2
