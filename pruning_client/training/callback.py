"""What joins a training: gates, for one."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pruning_client.execution.journal import Tensors


class Callback:
    """Joins every step of a `Trainer`; this one changes nothing."""

    def total_loss(self, loss: Tensor) -> Tensor:
        """The loss [] to minimise in this step, of the task's."""
        return loss

    def metrics(self) -> dict[str, Any]:
        """Entries of the history for this step, read after `total_loss` and before `after_step`."""
        return {}

    def figures(self, _metrics: dict[str, Any]) -> dict[str, str]:
        """Metrics of a step as progress shows them."""
        return {}

    def after_step(self) -> None:
        """Follow the optimiser's step; the gradients are still there."""

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        """What a checkpoint holds of it."""
        return {}, {}

    def restore(self, tensors: Tensors, values: dict[str, Any]) -> None:
        """Go on from a checkpoint; the network's weights are there already."""
