"""The latency's term of the loss of gates."""

from __future__ import annotations

import torch
from torch import Tensor

from pruning_client.methods.gate_options import GateOptions


class LatencyLoss:
    """The latency's part of the loss (docs/methods.md, section 1), with what it remembers between
    steps.

    ``log1p``: alpha log(1 + lat), the paper's form (our reconstruction), which aims at no budget.
    ``abs``: u alpha |lat / T - 1|. ``dual``: u lambda (lat / T - 1), where lambda grows by rho (lat
    / T - 1) at every step and stays at or above zero, and a square that damps it; both are our own,
    and so is the unit u, which makes alpha and lambda mean the same for every network.

    Args:
        target_ms: T.
        steps: number of steps with open gates.
    """

    def __init__(self, options: GateOptions, target_ms: float, steps: int) -> None:
        self._options = options
        self._target_ms = target_ms
        self._rho = options.rho / max(1, steps)
        self.multiplier = options.multiplier

    def __call__(self, latency: Tensor, unit: float = 1.0) -> Tensor:
        """The term [] for a latency [] in ms; also takes the step of the multiplier.

        Args:
            unit: loss that the whole latency stands for.
        """
        excess = latency / self._target_ms - 1
        if self._options.loss == "log1p":
            return self._options.alpha * torch.log1p(latency)
        if self._options.loss == "abs":
            return unit * self._options.alpha * excess.abs()
        return unit * self._dual(excess)

    def _dual(self, excess: Tensor) -> Tensor:
        self.multiplier = max(0.0, self.multiplier + self._rho * float(excess.detach()))
        return self.multiplier * excess + 0.5 * self._options.damping * excess**2
