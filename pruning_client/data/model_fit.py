"""Check that data fit a model, before anything expensive is started."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pruning_client.data.batch import ACCEPTED_FORMS, Batch, describe
from pruning_client.data.batches import Batches, ImageBatches
from pruning_client.data.file_batches import FileBatches
from pruning_client.errors import DataError, first_line
from pruning_client.execution.modes import evaluating


def forward_names(model: nn.Module) -> list[str]:
    """Parameters of a network's forward pass that can be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in kinds]


def input_channels(model: nn.Module) -> int | None:
    """Channels of the images that a network takes, grey or coloured, where its first convolution
    tells: one behind a rearrangement of pixels has others.
    """
    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    first = next(convolutions, None)
    return first.in_channels if first is not None and first.in_channels in (1, 3) else None


def check_fit(
    model: nn.Module, data: Batches, *, classes: bool = True, ignored: int = -100
) -> int | None:
    """Run two samples through the model and compare its output with the labels: with all of them
    where they are in memory.

    Args:
        classes: Whether the outputs must be class scores, with the labels as their classes.
        ignored: Label that the loss ignores.

    Returns:
        The number of classes; None when the outputs need not be class scores.

    Raises:
        DataError: The inputs do not fit the model, or the labels its output.
    """
    batch = next(iter(data.ordered()), None)
    if batch is None or not len(batch):
        raise DataError("The data hold no images.", ACCEPTED_FORMS)
    output = _output(model, batch.first(2))
    if not classes:
        return None
    _check_scores(output)
    scores = tuple(output.shape[1:])
    _check_labels(batch.target, scores, ignored, getattr(data, "classes", ()))
    if isinstance(data, ImageBatches):
        labels = data.target[data.index]
        labels = labels if labels.is_floating_point() else labels.long()
        _check_labels(labels, scores, ignored, ())
    elif isinstance(data, FileBatches):
        _check_labels(data.images.labels[data.index], scores, ignored, data.classes)
    return int(output.shape[1])


def _output(model: nn.Module, batch: Batch) -> Any:
    """The model's output for the samples, in evaluation mode."""
    device = next(model.parameters()).device
    try:
        with evaluating(model), torch.no_grad():
            return model(*batch.to(device).inputs)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shapes = " and ".join("x".join(map(str, x.shape[1:])) for x in batch.inputs)
        raise DataError(
            f"Images of shape {shapes} do not fit the model's input: {first_line(error)}.",
            "Give images of the shape that the model takes (channels first).",
        ) from error


def _check_scores(output: Any) -> None:
    if torch.is_tensor(output) and output.dim() >= 2 and output.shape[1] > 1:
        return
    raise DataError(
        f"The model's output is {describe(output)}, not one score for each class.",
        "Give a recipe with the loss and the quality measure of your task: "
        "`Training(recipe=Recipe(loss=..., evaluate=...))`, or a ready one such as "
        "`recipes.regression()`.",
    )


def _check_labels(target: Any, scores: tuple[int, ...], ignored: int, names: Sequence[str]) -> None:
    """Compare a target with scores [classes, ...] of one sample.

    Args:
        names: Class folders in the order of the labels, if there are any.
    """
    classes, *places = scores
    if not torch.is_tensor(target):
        raise DataError(f"The labels are {describe(target)}, not a tensor.", ACCEPTED_FORMS)
    if target.is_floating_point():
        _check_probabilities(target, scores)
        return
    labels = target.squeeze(1) if target.dim() == len(scores) + 1 else target
    if list(labels.shape[1:]) != places:
        raise DataError(
            f"Labels of shape {list(target.shape)} do not fit scores of shape [B, "
            f"{', '.join(map(str, scores))}].",
            "Give one integer for each image, or for each of its pixels.",
        )
    low, high = _range(labels[labels != ignored])
    if low < 0 or high >= classes:
        folders = f" (the folders {', '.join(names)})" if names else ""
        raise DataError(
            f"Labels from {low} to {high}{folders} do not fit the model's {classes} classes.",
            "Take away folders that are no classes."
            if names
            else "Give integers from 0 to the number of classes minus one; for a label that is to "
            "be ignored give a recipe such as `recipes.segmentation(ignore_index=255)`.",
        )


def _check_probabilities(target: Tensor, scores: tuple[int, ...]) -> None:
    if tuple(target.shape[1:]) != scores or not are_shares(target):
        low, high = float(target.min()), float(target.max())
        raise DataError(
            f"Labels from {low:g} to {high:g}, of shape {list(target.shape)} and type "
            f"{str(target.dtype).removeprefix('torch.')}, do not fit the model's {scores[0]} "
            "classes.",
            "Give integers from 0 to the number of classes minus one, or a probability for each "
            "class.",
        )


def are_shares(target: Tensor) -> bool:
    """Whether each sample of a target [B, classes, ...] holds shares of the classes."""
    one = torch.ones((), device=target.device)
    return bool((target >= 0).all()) and torch.allclose(target.float().sum(1), one, atol=1e-3)


def _range(labels: Tensor) -> tuple[int, int]:
    return (int(labels.min()), int(labels.max())) if labels.numel() else (0, 0)
