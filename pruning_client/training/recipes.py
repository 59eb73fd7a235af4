"""Ready recipes for the usual tasks.

>>> from pruning_client import Training, recipes
>>> training = Training(recipe=recipes.segmentation(ignore_index=255))
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from pruning_client.training.hooks import Recipe
from pruning_client.training.metrics import (
    Determination,
    MeanIou,
    MultiLabelF1,
    check_label_shares,
)


def classification(label_smoothing: float = 0.0) -> Recipe:
    """One class for each image: cross-entropy, top-1 accuracy."""
    loss = partial(F.cross_entropy, label_smoothing=label_smoothing)
    return Recipe(loss=loss if label_smoothing else F.cross_entropy, outputs="classes")


def segmentation(ignore_index: int = 255) -> Recipe:
    """One class for each pixel, scores [B, classes, H, W] and labels [B, H, W]: cross-entropy, mean
    intersection over union.

    Args:
        ignore_index: Label of pixels that do not count.
    """
    loss = partial(F.cross_entropy, ignore_index=ignore_index)
    return Recipe(loss=loss, metric=MeanIou, outputs="classes")


def multi_label() -> Recipe:
    """Several labels for each image, logits [B, labels] and targets between 0 and 1: binary
    cross-entropy, F1 score.
    """
    return Recipe(loss=_binary_cross_entropy, metric=MultiLabelF1, outputs="values")


def regression() -> Recipe:
    """Numbers, such as coordinates: smooth L1 loss, coefficient of determination."""
    return Recipe(loss=F.smooth_l1_loss, metric=Determination, outputs="values")


def _binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    check_label_shares(target)
    return F.binary_cross_entropy_with_logits(logits, target.to(logits))


#: Recipes by the name that the command line takes.
RECIPES: dict[str, Callable[[], Recipe]] = {
    "classification": classification,
    "segmentation": segmentation,
    "multi-label": multi_label,
    "regression": regression,
}
