"""Values of options as settings of a job."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pruning_client.errors import UsageError
from pruning_client.methods.base import Method
from pruning_client.methods.registry import METHODS, method_of

if TYPE_CHECKING:
    from torch import nn


def method_from(name: str, **options: Any) -> Method:
    """The method of this name; an option of None is the method's default.

    Raises:
        UsageError: the method does not have an option that is given; the cure names those it has.
    """
    has = {entry.name for entry in fields(METHODS[name])} & options.keys()
    foreign = [
        option for option, value in options.items() if value is not None and option not in has
    ]
    if foreign:
        known = ", ".join(f"--{option}" for option in options if option in has)
        raise UsageError(
            f"The method {name!r} has no option --{foreign[0]}.",
            f"Its options: {known}." if known else "It has no options.",
        )
    return method_of(name, **options)


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Comma-separated numbers."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r}: write numbers with commas between them", param_hint=option
        ) from error


def load_on(torch_device: str, model: str, weights: Path | None) -> nn.Module:
    """The model of a reference, on the torch device where training is to run.

    Raises:
        ModelError: the model cannot be made.
        UsageError: there is no GPU to train on.
    """
    import torch

    from pruning_client.data.models import load_model

    has_gpu = torch.cuda.is_available()
    if torch_device == "cuda" and not has_gpu:
        raise UsageError("There is no GPU that torch can use.", "Leave --torch-device at auto.")
    made = load_model(model, weights)
    return made.cuda() if has_gpu and torch_device != "cpu" else made
