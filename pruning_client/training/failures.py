"""Failures of training steps in code that is not ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from pruning_client.data.batch import Batch, summary
from pruning_client.errors import PruningError, TrainingFailed, first_line


@contextlib.contextmanager
def explained(place: str, batch: Batch) -> Iterator[None]:
    """Name the step in which the user's network or loss fails.

    Args:
        place: The step, for the message.

    Raises:
        TrainingFailed: It fails with an error of another kind than the project's own.
    """
    try:
        yield
    except PruningError:
        raise
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError):
            cure = "Compute fewer images at once: `Training(micro_batch=...)`."
        else:
            cure = (
                f"Look at the loss, the network and this batch: its target is "
                f"{summary(batch.target)}."
            )
        raise TrainingFailed(
            f"Training fails at {place}: {type(error).__name__}: {first_line(error)}.", cure
        ) from error
