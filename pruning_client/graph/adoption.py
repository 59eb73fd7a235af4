"""Modules whose numbers of channels follow from the tensors that they hold or are given."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from pruning_client.graph.chance import in_mode
from pruning_client.graph.export import first_names, tensors
from pruning_client.graph.modules import (
    CONVOLUTIONS,
    NORMS,
    PRODUCERS,
    TRANSPOSED,
    channel_axis,
    is_depthwise,
)
from pruning_client.graph.traced import Traced

#: Hooks of torch that compute a weight.
_COMPUTING = (WeightNorm, SpectralNorm, BasePruningMethod)


def _compute_weights(module: nn.Module) -> None:
    """Update the weights that a hook computes before each call."""
    training, module.training = module.training, False
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, _COMPUTING):
            hook(module, ())
    module.training = training


def correct_counts(module: nn.Module) -> None:
    """Update a module's attributes to the shapes of its tensors."""
    with torch.no_grad():
        _compute_weights(module)
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        per_group = module.out_channels // module.groups
        module.groups = module.groups if module.groups == 1 else module.weight.shape[0] // per_group
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, TRANSPOSED):
        per_group = module.in_channels // module.groups
        module.groups = module.groups if module.groups == 1 else module.weight.shape[0] // per_group
        module.in_channels = module.weight.shape[0]
        module.out_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        held = next((t for t in (module.weight, module.running_mean) if t is not None), None)
        module.num_features = module.num_features if held is None else len(held)
    elif isinstance(module, nn.GroupNorm) and module.weight is not None:
        per_group = module.num_channels // module.num_groups
        module.num_channels = len(module.weight)
        module.num_groups = module.num_channels // per_group
    elif isinstance(module, nn.RNNBase):
        module.input_size = module.get_parameter("weight_ih_l0").shape[1]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)


def adopt_channels(model: nn.Module, traced: Traced) -> None:
    """Update norms without tensors, and layers whose outputs nothing reads, to the number of
    channels that reach them.
    """
    unread = _unread(model, traced)
    adopting = [module for module in model.modules() if _is_bare_norm(module) or module in unread]
    if not adopting:
        return
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    modes = {module: module.training for module in model.modules()}
    hooks = [module.register_forward_pre_hook(_adopt) for module in adopting]
    try:
        for training, _ in traced.modes:
            with torch.no_grad(), in_mode(model, training=training):
                model(*(x.to(device) for x in traced.example))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training


def _is_bare_norm(module: nn.Module) -> bool:
    norms = (nn.GroupNorm, nn.modules.batchnorm._NormBase)
    tensors_held = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return isinstance(module, norms) and not tensors_held


def _unread(model: nn.Module, traced: Traced) -> set[nn.Module]:
    """Layers and norms with tensors that no graph has."""
    known = {
        tensor.name
        for _, graph in traced.modes
        for tensor in graph.space.template.graph.initializer
    }
    known = {name for name, first in first_names(model).items() if first in known}
    return {
        module
        for path, module in model.named_modules()
        if isinstance(module, (*PRODUCERS, *NORMS))
        and not any(f"{path}.{name}" in known for name, _ in tensors(module))
    }


def _adopt(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    channels = inputs[0].shape[channel_axis(module)]
    if module._parameters.get("weight") is not None:
        _resize(module, channels)
        correct_counts(module)
    elif isinstance(module, nn.GroupNorm):
        per_group = module.num_channels // module.num_groups
        module.num_channels = channels
        module.num_groups = channels // per_group
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        module.num_features = channels


def _resize(module: nn.Module, channels: int) -> None:
    """Give a module the first of its weights for as many channels; nothing reads what it makes."""
    given = module._parameters["weight"]
    assert given is not None, "modules without weights are not resized"
    whole = isinstance(module, NORMS) or is_depthwise(module)
    axis = 0 if whole or isinstance(module, TRANSPOSED) else 1
    ratio = (
        given.shape[0] // module.in_channels if isinstance(module, CONVOLUTIONS) and whole else 1
    )
    index = torch.arange(min(ratio * channels, given.shape[axis]), device=given.device)
    for name, value in tensors(module):
        if value.dim() and (whole or name == "weight"):
            chosen = value.detach().index_select(axis, index)
            is_parameter = isinstance(value, nn.Parameter)
            setattr(
                module, name, nn.Parameter(chosen, value.requires_grad) if is_parameter else chosen
            )
