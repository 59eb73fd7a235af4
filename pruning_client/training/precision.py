"""Precision of the forward pass: bfloat16 where it is faster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from pruning_client.execution.copies import copied
from pruning_client.training.config import PrecisionName
from pruning_client.training.trials import CLOCK, Clock, shortest_seconds

Computed = Literal["float32", "bfloat16"]

#: Flag of processors with units that multiply matrices of bfloat16.
_FLAG = "amx_bf16"
_CPUINFO = Path("/proc/cpuinfo")
#: Speed-up from which bfloat16 is used.
_WORTHWHILE = 1.3
#: Training steps that are too few for a trial.
_FEW = 100


def autocast(model: nn.Module, precision: Computed) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision for the forward pass of a network."""
    device = next(model.parameters()).device.type
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device, torch.bfloat16)


def possible(wanted: PrecisionName, device: torch.device) -> list[Computed]:
    """Precisions that `choose` may answer on a device."""
    if wanted != "auto":
        return [wanted]
    if device.type == "cuda":
        return [_of_gpu()]
    return ["float32", "bfloat16"] if _has_units() else ["float32"]


def choose(
    wanted: PrecisionName,
    model: nn.Module,
    step: Callable[[nn.Module, Computed], object],
    *,
    steps: int,
    has_units: Callable[[], bool] | None = None,
    clock: Clock = CLOCK,
) -> Computed:
    """The precision of a training.

    "auto" is bfloat16 on GPUs that support it, and on processors that have units for it if a few
    timed steps are faster with it; else float32.

    Args:
        step: Forward and backward pass of a network in a precision.
        steps: Number of steps that the training takes.
        has_units: Whether the processor has units for bfloat16; by default as Linux says.
    """
    if wanted != "auto":
        return wanted
    if next(model.parameters()).device.type == "cuda":
        return _of_gpu()
    if steps < _FEW or not (has_units or _has_units)():
        return "float32"
    twin = copied(model)
    with torch.random.fork_rng(devices=[]):
        plain = shortest_seconds(lambda: step(twin, "float32"), clock)
        mixed = shortest_seconds(lambda: step(twin, "bfloat16"), clock)
    return "bfloat16" if plain > _WORTHWHILE * mixed else "float32"


def _of_gpu() -> Computed:
    has_units = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if has_units else "float32"


def _has_units() -> bool:
    try:
        return _FLAG in _CPUINFO.read_text()
    except OSError:
        return False
