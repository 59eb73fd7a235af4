"""Checkpoints: the state of modules and optimisers as named tensors and plain values, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pruning_client.execution.journal import Tensors


def module_state(prefix: str, module: nn.Module) -> Tensors:
    """A module's tensors, named with a prefix."""
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}


def restore_module(prefix: str, module: nn.Module, tensors: Tensors) -> None:
    module.load_state_dict(_under(prefix, tensors))


def optimiser_state(
    prefix: str, optimiser: torch.optim.Optimizer
) -> tuple[Tensors, dict[str, Any]]:
    """An optimiser's state, as tensors with a prefix and as plain values."""
    state = optimiser.state_dict()
    tensors = {}
    numbers = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if torch.is_tensor(value):
                tensors[f"{prefix}.{index}.{name}"] = value
            else:
                numbers[f"{index}.{name}"] = value
    return tensors, {"groups": state["param_groups"], "numbers": numbers}


def restore_optimiser(
    prefix: str, optimiser: torch.optim.Optimizer, tensors: Tensors, values: dict[str, Any]
) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**values["numbers"], **_under(prefix, tensors)}.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": values["groups"]})


def _under(prefix: str, tensors: Tensors) -> Tensors:
    start = f"{prefix}."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }
