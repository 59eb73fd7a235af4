"""Conversion of option values to settings of a job."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_type_hints

import typer

from latency_service.core.runtimes import CalibrationName
from latency_service.core.units import parse_duration, parse_percent
from pruning_client.errors import DataError, UsageError
from pruning_client.pipeline.quantisation_settings import Quantisation

if TYPE_CHECKING:
    from torch import nn

    from pruning_client.data.transforms import Transform
    from pruning_client.graph.traced import Deploy
    from pruning_client.methods.base import Method
    from pruning_client.training.hooks import Recipe


def method_from(name: str, more: Sequence[str] = (), **options: Any) -> Method:
    """The method of this name; an option of None is the method's default.

    Args:
        more: Further options of the method, each NAME=VALUE.

    Raises:
        UsageError: There is no such method, or it does not have a given option; the cure lists its
            options.
        PluginError: The method of another package is broken.
    """
    from pruning_client.methods.registry import default_method, method_of

    default = default_method(name)
    has = {entry.name for entry in fields(default)} & options.keys()
    foreign = [
        option for option, value in options.items() if value is not None and option not in has
    ]
    if foreign:
        raise UsageError(
            f"The method {name!r} has no option --{foreign[0]}.",
            _known_options(default, options),
        )
    return method_of(name, **{**options, **_further(default, more)})


def _known_options(method: Method, flags: Mapping[str, Any]) -> str:
    """Options of a method as they are given: some have flags of their own."""
    names = [entry.name for entry in fields(method)]
    known = [f"--{flag}" for flag in flags if flag in names]
    others = [name for name in names if name not in flags]
    if others:
        known.append(f"--method-option with {', '.join(others)}")
    return f"Its options: {', '.join(known)}." if known else "It has no options."


def _further(method: Method, given: Sequence[str]) -> dict[str, Any]:
    """Values of the options that are given as NAME=VALUE, in the types of the method's fields."""
    types = get_type_hints(type(method))
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(
                f"{text!r} does not set an option of the method.",
                "Write it as NAME=VALUE: `--method-option epochs=3`.",
            )
        # method_of refuses names that the method does not have
        found[name] = _typed(name, value, types.get(name, Any))
    return found


def _typed(name: str, text: str, kind: Any) -> Any:
    """The value that a text stands for: itself, or as JSON where it must be a list or null."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    # some options also take functions and tensors, in Python only
    adapter = TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    for read in (adapter.validate_python, adapter.validate_json):
        with contextlib.suppress(ValidationError):
            return read(text)
    raise UsageError(
        f"{text!r} is not a value of the method's option {name!r}.",
        f"Give {getattr(kind, '__name__', kind)}; lists are written as JSON: [1, 8].",
    )


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


def recipe_from(reference: str | None) -> Recipe:
    """The ready recipe of a name, or the object of ``package.module:object``; the default one
    without a reference.

    Raises:
        UsageError: There is no such recipe, or the object is none and returns none.
    """
    from pruning_client.data.models import called, imported
    from pruning_client.training.hooks import Recipe
    from pruning_client.training.recipes import RECIPES

    if reference is None or reference in RECIPES:
        return RECIPES[reference or "classification"]()
    if ":" not in reference:
        raise UsageError(
            f"There is no recipe {reference!r}.",
            f"Give {', '.join(RECIPES)}, or package.module:object.",
        )
    found = imported(reference, "recipe")
    made = called(reference, "recipe") if callable(found) else found
    if not isinstance(made, Recipe):
        raise UsageError(
            f"{reference!r} is no recipe but {type(made).__name__}.",
            "Give a `pruning_client.Recipe`, or a function that returns one.",
        )
    return made


def deploy_from(reference: str | None) -> Deploy | None:
    """The hook that ``package.module:function`` names; see `_function`."""
    cure = "Give a function of the trained network that returns the one to export."
    return None if reference is None else cast("Deploy", _function(reference, cure))


def transform_from(reference: str | None) -> Transform | None:
    """The transform that ``package.module:object`` names; see `_function`."""
    cure = "Give a function of a PIL image, such as a transform of torchvision."
    return None if reference is None else _function(reference, cure)


def _function(reference: str, cure: str) -> Callable[..., Any]:
    """The function, or the object that can be called, of a reference.

    Raises:
        ModelError: It cannot be imported.
        UsageError: It cannot be called.
    """
    from pruning_client.data.models import imported

    found = imported(reference, "function")
    if not callable(found):
        raise UsageError(f"{reference!r} is no function but {type(found).__name__}.", cure)
    return cast("Callable[..., Any]", found)


def class_names(path: Path | None) -> tuple[str, ...] | None:
    """Names in a text file, one on each line.

    Raises:
        DataError: It cannot be read, or holds no names.
    """
    if path is None:
        return None
    try:
        names = tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.", "Give a text file of names.") from error
    if not names or len(set(names)) < len(names):
        raise DataError(f"{path} holds no names, or one twice.", "Give one name on each line.")
    return names


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


def percent(option: str, text: str) -> float:
    """Parse a percentage."""
    try:
        return parse_percent(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}; give one such as 3%", param_hint=option) from error


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
