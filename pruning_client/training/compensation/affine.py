"""Batch norms with fixed statistics, as a scale and a shift of each channel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruning_client.training.batch_norm import batch_norms, is_frozen


def affine_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Batch norms that have statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


def scales_and_shifts(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale [C] and shift [C] that a batch norm applies in eval mode."""
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach()
    shift = -norm.running_mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach()
    return scale, shift


def set_statistics(norm: nn.Module, mean: Tensor, variance: Tensor) -> None:
    """Set the statistics [C] of a batch norm."""
    for name, value in (("running_mean", mean), ("running_var", variance)):
        held = getattr(norm, name)
        held.copy_(value)


@contextlib.contextmanager
def outputs_kept(model: nn.Module) -> Iterator[None]:
    """What the context changes in the statistics of batch norms is made up for in their weights and
    biases: in eval mode the network computes the same as before.

    Norms without weights and biases, and frozen ones, get their statistics back.
    """
    norms = [norm for norm in batch_norms(model) if norm.running_mean is not None]
    before = [scales_and_shifts(norm) for norm in norms]
    statistics = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]  # type: ignore[union-attr]
    yield
    with torch.no_grad():
        for norm, (scale, shift), (mean, variance) in zip(norms, before, statistics, strict=True):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            if norm.weight is None or norm.bias is None or is_frozen(norm):
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(variance)
            else:
                norm.weight.copy_(scale * (norm.running_var + norm.eps).sqrt())
                norm.bias.copy_(shift + norm.running_mean * scale)
