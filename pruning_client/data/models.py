"""Models from ``package.module:function`` and weights from a safetensors file."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pruning_client.errors import ModelError


def load_model(reference: str, weights: Path | str | None = None) -> nn.Module:
    """Import ``package.module:function``, call it, and load weights into the model it returns.

    Args:
        reference: A function (or class) without required arguments that returns a torch module. The
            current directory is searched too.
        weights: A safetensors file with the module's state_dict.

    Raises:
        ModelError: The function cannot be imported or called or does not return a module, or the
            weights do not fit.
    """
    model = called(reference, "model")
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{reference!r} returned {type(model).__name__}.", "It must return a torch.nn.Module."
        )
    if weights is not None:
        _load_weights(model, Path(weights))
    return model


def imported(reference: str, what: str) -> Any:
    """The object that ``package.module:object`` names; the current directory is searched too.

    Raises:
        ModelError: It cannot be imported.
    """
    name, _, attribute = reference.partition(":")
    if not name or not attribute:
        raise ModelError(
            f"{reference!r} does not name a {what}.", f"Write it as package.module:{what}."
        )
    try:
        with _importable(Path.cwd()):
            return getattr(importlib.import_module(name), attribute)
    except Exception as error:
        raise ModelError(
            f"The {what} {reference!r} cannot be imported: {type(error).__name__}: {error}.",
            "Give something that can be imported from this folder.",
        ) from error


def called(reference: str, what: str) -> Any:
    """What the function returns that ``package.module:function`` names.

    Raises:
        ModelError: It cannot be imported, or fails.
    """
    function = imported(reference, "function")
    try:
        with _importable(Path.cwd()):
            return function()
    except Exception as error:
        raise ModelError(
            f"The {what} {reference!r} cannot be created: {type(error).__name__}: {error}.",
            "Give a function without required arguments that can be imported from this folder.",
        ) from error


def _load_weights(model: nn.Module, path: Path) -> None:
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:400]
        raise ModelError(
            f"The weights {path} cannot be loaded: {cause}.",
            "Give the safetensors file of this model's state_dict.",
        ) from error


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
