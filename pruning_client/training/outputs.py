"""What a network's outputs are, and how far two networks' outputs are apart.

Class scores are compared as distributions; other outputs by relative squared distance. One test
decides which they are, for distillation, removal costs and initial widths alike.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from pruning_client.data.model_fit import are_shares
from pruning_client.training.config import Training
from pruning_client.training.cross_entropy import is_cross_entropy
from pruning_client.training.hooks import Recipe

#: Label of a position that does not count.
IGNORED = -1


def are_class_scores(recipe: Recipe, outputs: Any, target: Any) -> bool:
    """Whether outputs are class scores [B, classes, ...].

    The recipe says so, or its loss is cross-entropy, or its quality is accuracy or a metric and
    the target holds one class for each position of the scores. Other outputs have no distribution:
    a softmax over coordinates or embeddings would mean nothing.
    """
    if not torch.is_tensor(outputs) or outputs.dim() < 2 or outputs.shape[1] < 2:
        return False
    if recipe.outputs != "auto":
        return recipe.outputs == "classes"
    if is_cross_entropy(recipe.loss):
        return True
    labels = class_labels(outputs, target) if recipe.evaluate is None else None
    return labels is not None and (recipe.measures_accuracy or bool((labels != IGNORED).all()))


def class_labels(outputs: Tensor, target: Any) -> Tensor | None:
    """Classes [B, ...] of scores [B, classes, ...], `IGNORED` where a label is no class.

    Returns:
        None when the target holds no classes of these scores.
    """
    if not torch.is_tensor(target):
        return None
    places = (len(outputs), *outputs.shape[2:])
    if target.is_floating_point():
        return target.argmax(1) if _are_probabilities(outputs, target) else None
    labels = target.squeeze(1) if target.dim() == outputs.dim() else target
    if tuple(labels.shape) != places:
        return None
    labels = labels.to(outputs.device)
    return torch.where((labels >= 0) & (labels < outputs.shape[1]), labels, IGNORED)


def output_distance(training: Training, outputs: Any, wanted: Any, target: Any) -> Tensor | None:
    """Distance [] between the outputs of two networks for the same inputs.

    For class scores it is `class_distance` at the training's temperature, over the positions that
    the target does not ignore; for others `relative_distance`.

    Returns:
        None when the outputs differ in structure or shape, as those of training and eval mode may.
    """
    if not _alike(outputs, wanted):
        return None
    if are_class_scores(training.recipe, outputs, target):
        labels = class_labels(outputs, target)
        counts = None if labels is None else labels != IGNORED
        return class_distance(outputs, wanted, softening(training), counts)
    return relative_distance(outputs, wanted)


def softening(training: Training) -> float:
    """Temperature of the softmax when outputs are compared."""
    return training.temperature if training.distillation else 1.0


def class_distance(
    student: Tensor, teacher: Tensor, temperature: float, counts: Tensor | None = None
) -> Tensor:
    """Mean over all positions [] of the KL divergence of the softened scores [B, classes, ...].

    It is multiplied by t^2, so that the scale of its gradient does not depend on t.

    Args:
        counts: Mask [B, ...] of the positions that count; all by default.
    """
    divergence = F.kl_div(
        F.log_softmax(student.float() / temperature, dim=1),
        F.log_softmax(teacher.float() / temperature, dim=1),
        reduction="none",
        log_target=True,
    ).sum(1)
    if counts is None:
        return temperature**2 * divergence.mean()
    return temperature**2 * (divergence * counts).sum() / counts.sum().clamp_min(1)


def relative_distance(outputs: Any, wanted: Any) -> Tensor:
    """Mean squared distance [] relative to the variance of the wanted outputs, summed over the
    tensors of their structure.
    """
    pairs = zip(pytree.tree_leaves(outputs), pytree.tree_leaves(wanted), strict=True)
    parts = [_relative(a.float(), b.float()) for a, b in pairs if torch.is_tensor(a)]
    return torch.stack(parts).sum()


def _relative(outputs: Tensor, wanted: Tensor) -> Tensor:
    return (outputs - wanted).square().mean() / wanted.var(correction=0).clamp_min(1e-12)


def _are_probabilities(outputs: Tensor, target: Tensor) -> bool:
    return target.shape == outputs.shape and are_shares(target)


def _alike(outputs: Any, wanted: Any) -> bool:
    """Whether two outputs have the same structure and shapes, with at least one tensor."""
    mine, my_form = pytree.tree_flatten(outputs)
    theirs, their_form = pytree.tree_flatten(wanted)
    tensors = [x for x in mine if torch.is_tensor(x)]
    return (
        my_form == their_form
        and bool(tensors)
        and all(
            torch.is_tensor(a) == torch.is_tensor(b)
            and (not torch.is_tensor(a) or a.shape == b.shape)
            for a, b in zip(mine, theirs, strict=True)
        )
    )
