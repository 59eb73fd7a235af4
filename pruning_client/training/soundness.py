"""Whether a network is sound: finite weights, and answers better than chance."""

from __future__ import annotations

import math
from itertools import islice

import torch
from torch import Tensor, nn

from pruning_client.data.batches import Batches
from pruning_client.errors import ModelError, TrainingFailed
from pruning_client.execution.modes import evaluating
from pruning_client.graph.export import tensors
from pruning_client.training.outputs import IGNORED, class_labels

#: Standard deviations that an accuracy has to lie above that of chance.
_DEVIATIONS = 3.0
#: Batches that suffice to compare a network with chance.
_BATCHES = 8


def check_given(model: nn.Module) -> None:
    """Refuse a network that is given with weights or statistics that are not finite.

    Raises:
        ModelError: It has some; the message names the first tensor.
    """
    name = _first_not_finite(model)
    if name is not None:
        raise ModelError(
            f"The tensor {name!r} of the network holds values that are not finite.",
            "Load weights of a training that did not diverge.",
        )


def check_finite(model: nn.Module, phase: str) -> None:
    """Refuse a network with weights or statistics that are not finite.

    Raises:
        TrainingFailed: It has some; the message names the first tensor.
    """
    name = _first_not_finite(model)
    if name is not None:
        raise TrainingFailed(
            f"After {phase!r} the tensor {name!r} holds values that are not finite.",
            "Lower the learning rate (`Training(lr=...)`), and look for a loss that sums where it "
            "should take the mean.",
        )


def _first_not_finite(model: nn.Module) -> str | None:
    for name, value in tensors(model):
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name
    return None


def chance_of(model: nn.Module, data: Batches) -> tuple[float, float] | None:
    """Accuracy of a classifier on the first batches and that of always giving the most frequent
    label, per cent, when the network is no better than that; None when it is better, or gives no
    classes.
    """
    found = _found(model, data)
    if found is None:
        return None
    predicted, labels = found
    total = len(labels)
    right = int((predicted == labels).sum())
    share = float(labels.bincount().max()) / max(1, total)
    deviation = math.sqrt(total * share * (1 - share))
    if not total or right - total * share > _DEVIATIONS * deviation or right == total:
        return None
    return 100 * right / total, 100 * share


def _found(model: nn.Module, data: Batches) -> tuple[Tensor, Tensor] | None:
    """Predictions and labels [n] of the positions that count."""
    device = next(model.parameters()).device
    pairs = []
    with evaluating(model), torch.inference_mode():
        for batch in islice(data.ordered(), _BATCHES):
            outputs = model(*batch.to(device).inputs)
            scores = outputs if torch.is_tensor(outputs) and outputs.dim() > 1 else None
            labels = None if scores is None else class_labels(scores, batch.target)
            if scores is None or labels is None or scores.shape[1] < 2:
                return None
            counts = labels != IGNORED
            pairs.append((scores.argmax(1)[counts].cpu(), labels[counts].cpu()))
    if not pairs:
        return None
    return torch.cat([predicted for predicted, _ in pairs]), torch.cat([own for _, own in pairs])
