"""What a job leaves behind: the ONNX file, the compact checkpoint, report.json and report.html."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from latency_service.core.arrays import Ints
from latency_service.spaces.slicing import kept_positions
from pruning_client.errors import ModelError
from pruning_client.graph.space import Traced
from pruning_client.graph.surgery import load_slim

Keep = Sequence[Ints]
ONNX = "pruned.onnx"
CHECKPOINT = "pruned.safetensors"
REPORT = "report.json"
PAGE = "report.html"
_PACKAGES = ("latency-service", "torch", "onnx", "onnxruntime", "onnxscript", "numpy")


def load(model: nn.Module, path: Path | str) -> nn.Module:
    """The pruned network of ``pruned.safetensors``, made from the user's own full-size model (with
    any weights).

    Raises:
        SurgeryError: the file is no compact checkpoint, or belongs to another network.
    """
    return load_slim(model, path)


def load_model(reference: str, weights: Path | str | None = None) -> nn.Module:
    """Import ``package.module:function``, call it, and load weights into what it returns.

    Args:
        reference: a function (or class) without required arguments that returns a torch module. The
            folder that the program was started in is searched too.
        weights: a safetensors file with the module's state_dict.

    Raises:
        ModelError: it cannot be imported or called, returns no module, or the weights do not fit.
    """
    name, _, attribute = reference.partition(":")
    if not name or not attribute:
        raise ModelError(
            f"{reference!r} names no function.", "Write it as package.module:function."
        )
    try:
        with _importable(Path.cwd()):
            made = getattr(importlib.import_module(name), attribute)()
    except Exception as error:
        raise ModelError(
            f"The model {reference!r} cannot be made: {type(error).__name__}: {error}.",
            "Give a function without required arguments, importable from here.",
        ) from error
    if not isinstance(made, nn.Module):
        raise ModelError(
            f"{reference!r} returned {type(made).__name__}.", "It must return a torch.nn.Module."
        )
    if weights is not None:
        _load_weights(made, Path(weights))
    return made


def restore(dense: nn.Module, traced: Traced, keep: Keep, small: nn.Module) -> nn.Module:
    """A dense-size copy that holds the trained weights of a slimmed network at the channels that it
    kept.
    """
    whole = copy.deepcopy(dense)
    kept = [np.sort(channels) for channels in keep]
    axes: dict[str, dict[int, torch.Tensor]] = {}
    for entry in traced.space.manifest.slices:
        positions = torch.as_tensor(kept_positions(entry.segments, kept))
        axes.setdefault(entry.initializer, {})[entry.axis] = positions
    state = whole.state_dict()
    with torch.no_grad():
        for name, value in small.state_dict().items():
            if name not in state:  # a constant of the graph that the smaller network was made of
                continue
            where = tuple(
                axes.get(name, {}).get(axis, torch.arange(size)).to(value.device)
                for axis, size in enumerate(state[name].shape)
            )
            if where:
                state[name][torch.meshgrid(*where, indexing="ij")] = value
            else:
                state[name].copy_(value)
    return whole


def digest(data: bytes) -> str:
    """The first digits of a file's SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of what decides the result."""
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _PACKAGES},
    }


class Stopwatch:
    """Wall seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = round(
                self.seconds.get(phase, 0.0) + time.monotonic() - started, 3
            )


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
