"""Quality of a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pruning_client.training.config import Training
from pruning_client.training.outputs import IGNORED, are_class_scores, class_labels


def batch_quality(training: Training, outputs: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Sum [] of the qualities of a batch's answers, and their number [].

    The quality of class scores is 1 where the highest one is that of the label, and 0 elsewhere;
    labels that are no class do not count. For other outputs it is minus the recipe's loss, which
    counts as one answer [ours].
    """
    labels = _labels(training, outputs, target)
    if labels is not None:
        counts = labels != IGNORED
        return ((outputs.argmax(1) == labels) & counts).sum(), counts.sum()
    with torch.no_grad():
        loss = training.recipe.loss(outputs, target).detach().float()
    return -loss, torch.ones_like(loss)


def _labels(training: Training, outputs: Any, target: Any) -> Tensor | None:
    if not are_class_scores(training.recipe, outputs, target):
        return None
    return class_labels(outputs, target)
