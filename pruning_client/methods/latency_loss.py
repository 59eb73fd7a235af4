"""The latency term of the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from pruning_client.methods.gate_options import GateOptions


class LatencyLoss:
    """The latency term of the loss, with the multiplier of `dual` (docs/explanation/methods.md).

    ``log1p``: alpha log(1 + lat), the paper's form (our reconstruction), which has no budget.
    ``abs``: u alpha |lat / T - 1|. ``dual``: u lambda (lat / T - 1) plus a quadratic damping term,
    where lambda grows by rho (lat / T - 1) at every step and is never negative. ``abs`` and
    ``dual`` are ours, and so is the unit u, which makes alpha and lambda comparable between
    networks.

    Args:
        target_ms: Target latency T, ms.
        steps: Number of steps before the gates are frozen.
    """

    def __init__(self, options: GateOptions, target_ms: float, steps: int) -> None:
        self._options = options
        self._target_ms = target_ms
        self._rho = options.rho / max(1, steps)
        self.multiplier = options.multiplier

    def __call__(self, latency: Tensor, unit: float = 1.0) -> Tensor:
        """The term [] for a latency [] in ms; updates the multiplier.

        Args:
            unit: Loss that corresponds to the whole latency.
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


def prunable_share(latency: Tensor, widths: Tensor) -> float:
    """Share of a latency [] that is proportional to the widths [G], by its slopes there."""
    (slopes,) = torch.autograd.grad(latency, widths, retain_graph=True)
    return float(torch.dot(slopes.clamp_min(0), widths.detach())) / float(latency.detach())
