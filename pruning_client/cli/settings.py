"""Conversion of option values to settings of a job."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from latency_service.core.quantisation import CalibrationName
from latency_service.core.units import parse_duration
from pruning_client.errors import UsageError
from pruning_client.methods.base import Method
from pruning_client.methods.registry import METHODS, method_of
from pruning_client.pipeline.quantisation import Quantisation

if TYPE_CHECKING:
    from torch import nn


def method_from(name: str, **options: Any) -> Method:
    """The method of this name; an option of None is the method's default.

    Raises:
        UsageError: The method does not have a given option; the cure lists its options.
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


def quantisation_from(
    calibration: CalibrationName | None,
    images: int | None,
    max_accuracy_drop: float | None,
    float_layers: list[str] | None,
    aware_epochs: int | None,
) -> Quantisation | None:
    """The quantisation with the given settings; None when none is given."""
    given = {
        "calibration": calibration,
        "images": images,
        "max_accuracy_drop": max_accuracy_drop,
        "float_layers": tuple(float_layers) if float_layers else None,
        "aware_epochs": aware_epochs,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(Quantisation(), **changes) if changes else None


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Parse comma-separated numbers."""
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a comma-separated list of numbers", param_hint=option
        ) from error


def seconds(option: str, text: str) -> float:
    """Parse a duration."""
    try:
        return parse_duration(text, default_unit="s")
    except ValueError as error:
        raise typer.BadParameter(f"{error}; give one such as 10m", param_hint=option) from error


def load_on(torch_device: str, model: str, weights: Path | None) -> nn.Module:
    """Load a model by its reference, onto the torch device of the training.

    Raises:
        ModelError: The model cannot be created.
        UsageError: There is no GPU to train on.
    """
    import torch

    from pruning_client.data.models import load_model

    has_gpu = torch.cuda.is_available()
    if torch_device == "cuda" and not has_gpu:
        raise UsageError("There is no GPU that torch can use.", "Use --torch-device auto or cpu.")
    made = load_model(model, weights)
    return made.cuda() if has_gpu and torch_device != "cpu" else made
