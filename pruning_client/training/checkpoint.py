"""State of modules and optimisers as named tensors and plain values, for checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pruning_client.execution.journal import Tensors


def module_state(prefix: str, module: nn.Module) -> Tensors:
    """Tensors of a module, their names prefixed."""
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}


def restore_module(prefix: str, module: nn.Module, tensors: Tensors) -> None:
    """Load the tensors of `module_state`."""
    module.load_state_dict(_under(prefix, tensors))


def optimiser_state(
    prefix: str, optimiser: torch.optim.Optimizer
) -> tuple[Tensors, dict[str, Any]]:
    """State of an optimiser: tensors, their names prefixed, and plain values."""
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
    """Load the state of `optimiser_state`."""
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
