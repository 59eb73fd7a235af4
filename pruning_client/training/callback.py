"""Callbacks of the trainer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pruning_client.execution.journal import Tensors


class Callback:
    """Hooks into every step of a `Trainer`; the base class changes nothing."""

    def total_loss(self, loss: Tensor) -> Tensor:
        """Loss [] to minimise in this step, from the loss [] of the task."""
        return loss

    def metrics(self) -> dict[str, Any]:
        """Entries of the history for this step; called after `total_loss`, before `after_step`."""
        return {}

    def figures(self, _metrics: dict[str, Any]) -> dict[str, str]:
        """Metrics of a step, formatted for the progress display."""
        return {}

    def after_step(self) -> None:
        """Called after the optimiser's step, with the gradients still present."""

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors and plain values for a checkpoint."""
        return {}, {}

    def restore(self, tensors: Tensors, values: dict[str, Any]) -> None:
        """Restore a checkpoint, after the network's weights."""
