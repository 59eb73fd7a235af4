"""Options of the unification of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pruning_client.methods.names import AllocatorName

#: Logarithm of the factor by which the last stage brings W nearer to Z.
_DECAY = 8.0
#: Upper bound of lr x rho, well inside the range where SGD is stable.
_LARGEST_STEP = 0.5
#: Rows and columns of a block in the matrix of a layer's weights, or a whole row.
BlockShape = Literal["filter"] | tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class AdmmOptions:
    """Schedule of ADMM."""

    #: Epochs of training with ADMM.
    epochs: int = 6
    #: Number of stages of the penalty, evenly over the steps.
    stages: int = 4
    #: Penalty in the last stage, per squared distance of a weight; by default such that SGD alone
    #: brings W to Z in that stage, up to a factor of e^-8.
    rho: float | None = None
    #: Factor of the penalty from one stage to the next.
    rho_growth: float = 2.0
    #: Maximum number of updates of Z and U, evenly over the steps.
    updates: int = 16
    #: Learning rate of SGD, constant after a short warm-up.
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def interval(self, steps: int) -> int:
        """Steps between updates, of `steps` in all: at least as many as momentum takes to act, or U
        would grow by distances that W has had no time to close [ours].
        """
        return max(1, round(1 / (1 - self.momentum)), steps // self.updates)

    def penalty(self, done: int, steps: int) -> float:
        """Penalty after a number of steps, of `steps` in all."""
        stage = min(self.stages * done // steps, self.stages - 1)
        last = self._default_rho(steps) if self.rho is None else self.rho
        return last * self.rho_growth ** (stage - self.stages + 1)

    def _default_rho(self, steps: int) -> float:
        """A step of SGD with momentum m moves W by about ``lr / (1 - m) rho (Z - W)`` [ours]."""
        rate = self.lr / (1 - self.momentum)
        return min(_DECAY * self.stages / (rate * steps), _LARGEST_STEP / self.lr)


@dataclass(frozen=True, kw_only=True)
class UnificationOptions(AdmmOptions):
    """Blocks of weights, and the schedule of their training."""

    #: "filter", or rows and columns of a block in the matrix of filters against their weights.
    block: BlockShape = "filter"
    #: Rule that turns the energies of channels into widths; for `prune` only.
    allocator: AllocatorName = "threshold"
    #: Share of the blocks of each layer that become zero; for `compress` only.
    zeros: float = 0.0
    #: Modules whose weights stay as they are; for `compress` only.
    dense_layers: tuple[str, ...] = ()
