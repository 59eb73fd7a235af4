"""The network in what a user gives: without wrappers, and with weights that can be pruned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from pruning_client.errors import ModelError

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def given_network(model: Any) -> nn.Module:
    """The network itself, without the wrapper of torch.compile, DataParallel or
    DistributedDataParallel.

    Raises:
        ModelError: It is no network, has no parameters, or has modules or tensors that cannot be
            pruned; the message names the first.
    """
    while isinstance(inner := _inside(model), nn.Module):
        model = inner
    if not isinstance(model, nn.Module):
        raise _no_network(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            where = f"its module {name!r}" if name else "it"
            raise ModelError(
                f"{type(model).__name__} cannot be traced: {where} is compiled by torch.jit, which "
                "hides its operators.",
                "Give the network as it was before torch.jit.script or torch.jit.trace.",
            )
    _check_tensors(model)
    return model


def _inside(model: Any) -> Any:
    """The network that a wrapper holds, or None."""
    if isinstance(model, _PARALLEL):
        return model.module
    return getattr(model, "_orig_mod", None) if isinstance(model, nn.Module) else None


def _no_network(given: Any) -> ModelError:
    if isinstance(given, type) and issubclass(given, nn.Module):
        return ModelError(
            f"{given.__name__} is a class, not a network.",
            f"Give an instance, such as {given.__name__}().",
        )
    if isinstance(given, Mapping):
        return ModelError(
            "A dictionary is no network; a state_dict has weights without operators.",
            "Create the network, load its weights with load_state_dict, and give the network.",
        )
    return ModelError(
        f"{type(given).__name__} is not a torch network.", "Give an instance of torch.nn.Module."
    )


def _check_tensors(model: nn.Module) -> None:
    kind = type(model).__name__
    parameters = dict(model.named_parameters())
    if not parameters:
        raise ModelError(
            f"{kind} has no parameters, so that there is nothing to prune.",
            "Give a network with layers, registered as its attributes or in an nn.ModuleList.",
        )
    for name, value in [*parameters.items(), *model.named_buffers()]:
        if is_lazy(value):
            raise ModelError(
                f"{name!r} of {kind} has no shape yet: its lazy module was never run.",
                "Run the network once on a batch before it is given.",
            )
        if value.is_meta:
            raise ModelError(
                f"{name!r} of {kind} is on the meta device and has no values.",
                "Move the network to a device with to_empty, and load its weights.",
            )
    for name, value in parameters.items():
        if value.is_floating_point() and value.dtype != torch.float32:
            raise ModelError(
                f"{name!r} of {kind} is {str(value.dtype).removeprefix('torch.')}; weights are "
                "pruned, measured and exported as float32.",
                "Call .float() on the network, and let mixed precision be chosen for training.",
            )
