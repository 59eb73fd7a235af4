"""Callbacks of the trainer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pruning_client.execution.journal import Tensors


class Callback:
    """Hooks into every step of a `Trainer`; the base class changes nothing.

    A step has one forward pass of the batch that is trained on. A callback may ask for further ones
    before it, which have no gradients and leave the statistics of batch norms as they are.
    """

    @property
    def further_passes(self) -> int:
        """Number of further forward passes of the next step."""
        return 0

    def before_pass(self) -> None:
        """Called before each forward pass of a batch."""

    def observe(self, outputs: Any, target: Any) -> None:
        """Called with this process's outputs of a pass, once for each piece of `micro_batch`
        samples.
        """

    def after_pass(self) -> None:
        """Called when all samples of a pass were observed, in every process."""

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
