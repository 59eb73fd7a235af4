"""Quality of a network on held-out data, per cent: higher is better."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pruning_client.data.batch import describe
from pruning_client.data.batches import Batches
from pruning_client.errors import DataError
from pruning_client.execution.modes import evaluating
from pruning_client.training.hooks import Metric
from pruning_client.training.outputs import IGNORED, class_labels


def evaluate(model: nn.Module, data: Batches, metric: Metric) -> float:
    """Quality of a network in eval mode, per cent."""
    device = next(model.parameters()).device
    with evaluating(model), torch.inference_mode():
        for batch in data.ordered():
            metric.update(model(*batch.to(device).inputs), batch.to(device).target)
    return metric.value()


def accuracy(model: nn.Module, data: Batches) -> float:
    """Top-1 accuracy, per cent: of images, or of pixels where there is a label for each."""
    return evaluate(model, data, Accuracy())


class Accuracy:
    """Top-1 accuracy of class scores [B, classes, ...]; labels that are no class do not count."""

    def __init__(self) -> None:
        self.right = 0
        self.total = 0

    def update(self, outputs: Any, target: Any) -> None:
        labels = _labels(outputs, target)
        counts = labels != IGNORED
        self.right += int(((outputs.argmax(1) == labels) & counts).sum())
        self.total += int(counts.sum())

    def value(self) -> float:
        return 100.0 * self.right / max(1, self.total)


class MeanIou:
    """Mean over the classes of intersection over union, of scores [B, classes, H, W] and labels
    [B, H, W]; classes that neither the labels nor the predictions have do not count.
    """

    def __init__(self) -> None:
        self._confusion: Tensor | None = None

    def update(self, outputs: Any, target: Any) -> None:
        labels = _labels(outputs, target)
        counts = labels != IGNORED
        classes = outputs.shape[1]
        pairs = labels[counts] * classes + outputs.argmax(1)[counts]
        found = torch.bincount(pairs, minlength=classes**2).view(classes, classes).cpu()
        self._confusion = found if self._confusion is None else self._confusion + found

    def value(self) -> float:
        if self._confusion is None:
            return 0.0
        both = self._confusion.diag().double()
        either = self._confusion.sum(0) + self._confusion.sum(1) - both
        there = either > 0
        return float(100 * (both[there] / either[there]).mean()) if there.any() else 0.0


class MultiLabelF1:
    """F1 score over all labels together, of logits [B, labels] and targets [B, labels] of 0 and
    1: a label is predicted where its logit is positive.
    """

    def __init__(self) -> None:
        self._hits = self._predicted = self._there = 0

    def update(self, outputs: Any, target: Any) -> None:
        _check_same_shape(outputs, target)
        predicted, there = outputs > 0, target > 0.5
        self._hits += int((predicted & there).sum())
        self._predicted += int(predicted.sum())
        self._there += int(there.sum())

    def value(self) -> float:
        return 100.0 * 2 * self._hits / max(1, self._predicted + self._there)


class Determination:
    """Coefficient of determination R^2 of outputs and targets of one shape [B, ...].

    It is 100 for exact outputs and 0 for those that always answer the mean; below, it is negative.
    """

    def __init__(self) -> None:
        self._squares = 0.0
        self._targets: list[Tensor] = []

    def update(self, outputs: Any, target: Any) -> None:
        _check_same_shape(outputs, target)
        self._squares += float((outputs.double() - target.double()).square().sum())
        self._targets.append(target.double().cpu())

    def value(self) -> float:
        if not self._targets:
            return 0.0
        targets = torch.cat(self._targets)
        spread = float((targets - targets.mean(0)).square().sum())
        return 100.0 * (1 - self._squares / max(spread, 1e-12))


def _labels(outputs: Any, target: Any) -> Tensor:
    labels = class_labels(outputs, target) if torch.is_tensor(outputs) else None
    if labels is None:
        raise DataError(
            f"Outputs that are {describe(outputs)} and labels that are {describe(target)} are not "
            "the scores and classes of one task.",
            "Give class scores [B, classes, ...] and labels [B, ...], or a measure of your own: "
            "`Recipe(evaluate=...)`.",
        )
    return labels


def _check_same_shape(outputs: Any, target: Any) -> None:
    if not torch.is_tensor(outputs) or not torch.is_tensor(target) or outputs.shape != target.shape:
        raise DataError(
            f"Outputs that are {describe(outputs)} and targets that are {describe(target)} differ "
            "in shape.",
            "Give targets of the shape of the outputs.",
        )
