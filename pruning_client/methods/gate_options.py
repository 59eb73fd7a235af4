"""Options of joint training of weights and gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LossName = Literal["dual", "abs", "log1p"]


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """Joint training of weights and gates."""

    #: Epochs of joint training of weights and gates.
    epochs: int = 6
    #: Form of the latency term in the loss (docs/explanation/methods.md).
    loss: LossName = "dual"
    #: Weight of the latency term of `abs` and `log1p`.
    alpha: float = 1.0
    #: Growth of the multiplier of `dual` per unit of relative excess and step, times the number of
    #: steps before the gates are frozen.
    rho: float = 6.0
    #: Weight of the squared relative excess in `dual` (augmented Lagrangian). It keeps the latency
    #: from oscillating around the budget and from drifting below it.
    damping: float = 4.0
    #: Initial value of the multiplier of `dual`.
    multiplier: float = 0.1
    #: Learning rate of SGD on the weights, constant after a short warm-up; None for one from the
    #: network's own scale.
    lr: float | None = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    #: Learning rate of Adam on the gates. By default a score can cross a quarter of the band before
    #: the gates are frozen: the initial widths are already good, and large changes cost accuracy.
    gate_lr: float | None = None
    #: Share of the steps, at the end, with frozen gates.
    frozen_share: float = 0.2


@dataclass(frozen=True, kw_only=True)
class WidthGateOptions(GateOptions):
    """Joint training with gates that start at initial widths."""

    #: Number of steps below which joint training is left out, with a note: the selection is then
    #: that of the initial widths.
    least_steps: int = 4
