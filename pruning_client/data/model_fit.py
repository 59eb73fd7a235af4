"""Check that data fit a model, before anything expensive is started."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pruning_client.data.batches import ACCEPTED_FORMS, Batches
from pruning_client.errors import DataError


def check_fit(model: nn.Module, data: Batches, *, labels: bool = True) -> None:
    """Run two images through the model and compare its output with the labels.

    Args:
        labels: Whether the model must be a classifier, with the labels as its classes.

    Raises:
        DataError: The images do not fit the model's input, or the labels its output.
    """
    images, expected = next(iter(data.ordered()), (torch.empty(0), torch.empty(0)))
    if not len(images):
        raise DataError("The data hold no images.", ACCEPTED_FORMS)
    output = _output(model, images)
    if labels:
        _check_scores(output)
        _check_labels(expected, classes=output.shape[1])


def _output(model: nn.Module, images: Tensor) -> Any:
    """The model's output for the first two images, in evaluation mode."""
    was_training = model.training
    device = next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            return model(images[:2].to(device))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shape = "x".join(map(str, images.shape[1:]))
        raise DataError(
            f"Images of shape {shape} do not fit the model's input: {str(error).splitlines()[0]}.",
            "Give images of the shape that the model takes (channels first).",
        ) from error
    finally:
        model.train(was_training)


def _check_scores(output: Any) -> None:
    if torch.is_tensor(output) and output.dim() == 2:
        return
    found = f"shape {tuple(output.shape)}" if torch.is_tensor(output) else type(output).__name__
    raise DataError(
        f"The model's output is {found}, not one score for each class.",
        "Only classifiers [B, classes] are trained.",
    )


def _check_labels(labels: Tensor, *, classes: int) -> None:
    low = int(labels.min())
    high = int(labels.max())
    if labels.is_floating_point() or low < 0 or high >= classes:
        raise DataError(
            f"Labels from {low} to {high} do not fit the model's {classes} classes.",
            "Give integers from 0 to the number of classes minus one.",
        )
