"""Quality of a network on held-out data, per cent: higher is better."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pruning_client.data.batch import describe
from pruning_client.data.batches import Batches
from pruning_client.errors import DataError, UsageError
from pruning_client.execution.modes import evaluating
from pruning_client.training.hooks import Metric, Recipe
from pruning_client.training.outputs import IGNORED, class_labels

#: Number of outputs from which their range tells probabilities from logits.
_TELLING = 64


def quality(model: nn.Module, data: Batches, recipe: Recipe) -> float:
    """Quality of a network by the recipe's measure, by default top-1 accuracy, per cent.

    Raises:
        UsageError: The recipe's measure does not return a finite number.
    """
    if recipe.evaluate is not None:
        return _checked(recipe.evaluate(model), "`evaluate`")
    return evaluate(model, data, (recipe.metric or Accuracy)())


def evaluate(model: nn.Module, data: Batches, metric: Metric) -> float:
    """Quality of a network in eval mode, per cent.

    Raises:
        UsageError: The metric's value is not a finite number.
    """
    device = next(model.parameters()).device
    with evaluating(model), torch.inference_mode():
        for batch in data.ordered():
            metric.update(model(*batch.to(device).inputs), batch.to(device).target)
    return _checked(metric.value(), f"the metric {type(metric).__name__}")


def _checked(value: Any, what: str) -> float:
    """A quality as a number: torchmetrics and NumPy return others that are one."""
    try:
        found = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError):
        found = math.nan
    if not math.isfinite(found):
        given = value if isinstance(value, (float, str)) else describe(value)
        raise UsageError(
            f"The quality that {what} returns is no finite number but {given}.",
            "Return one number in per cent; where that is done, look for values that are not "
            "finite in the held-out data.",
        )
    return found


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
        self._hits = self._predicted = self._there = self._count = 0
        self._low, self._high = 0.0, 0.0

    def update(self, outputs: Any, target: Any) -> None:
        _check_same_shape(outputs, target)
        check_label_shares(target)
        self._count += outputs.numel()
        self._low = min(self._low, float(outputs.min()))
        self._high = max(self._high, float(outputs.max()))
        predicted, there = outputs > 0, target > 0.5
        self._hits += int((predicted & there).sum())
        self._predicted += int(predicted.sum())
        self._there += int(there.sum())

    def value(self) -> float:
        """F1 score, per cent.

        Raises:
            DataError: The outputs are probabilities.
        """
        if self._count >= _TELLING and self._low >= 0 and 0 < self._high <= 1:
            raise DataError(
                "All outputs lie between 0 and 1: the network ends in a sigmoid, and multi-label "
                "training takes logits.",
                "Give the network without its last sigmoid, or a recipe with a loss and a measure "
                "of your own, such as `Recipe(loss=F.binary_cross_entropy, metric=...)`.",
            )
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


def check_label_shares(target: Any) -> None:
    """Refuse multi-label targets outside of 0..1.

    Raises:
        DataError: Some are.
    """
    if not torch.is_tensor(target) or not target.numel():
        return
    low, high = float(target.min()), float(target.max())
    if low < 0 or high > 1:
        raise DataError(
            f"Multi-label targets lie between {low:g} and {high:g}.",
            "Give 0 and 1: divide masks of 0 and 255 by 255; for labels that are not known give a "
            "recipe with a loss and a measure that leave them out.",
        )


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
