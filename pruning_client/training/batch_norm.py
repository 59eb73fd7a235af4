"""Recalibration of batch norms after channels are removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruning_client.data.batch import Batch
from pruning_client.data.batches import Batches
from pruning_client.execution.modes import evaluating

#: Attribute of a frozen norm.
_MARK = "pruning_client_frozen"


def recalibrate_batch_norm(model: nn.Module, data: Batches, *, batches: int, seed: int = 0) -> None:
    """Re-estimate the statistics of all batch norms, as plain means over a number of batches.

    Frozen ones are kept, and nothing else changes. Removing channels shifts the distributions that
    the statistics describe: without this step the accuracy after removal is meaningless
    (docs/design.md, fact 8).
    """
    if batches >= 1:
        estimate_statistics(model, islice(data.shuffled(seed), batches))


def estimate_statistics(model: nn.Module, batches: Iterable[Batch]) -> None:
    """Re-estimate the statistics of all batch norms that are not frozen, as plain means over these
    batches.
    """
    norms = [
        norm for norm in batch_norms(model) if norm.track_running_stats and not is_frozen(norm)
    ]
    if not norms:
        return
    device = next(model.parameters()).device
    with _estimating(model, norms), torch.no_grad():
        for batch in batches:
            model(*batch.to(device).inputs)


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """All batch norms of a network."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def mark_frozen(model: nn.Module) -> list[str]:
    """Mark the batch norms that the user has frozen, and return their names.

    A norm is frozen when its scale and offset are not trained although other parameters are, or
    when it is in eval mode beside layers in training mode. The mark is kept by copies.
    """
    trains = any(parameter.requires_grad for parameter in model.parameters())
    # a new wrapper around a network in eval mode says nothing
    beside = any(
        module.training and any(True for _ in module.parameters(recurse=False))
        for module in model.modules()
        if not isinstance(module, _BatchNorm)
    )
    frozen = []
    for name, norm in model.named_modules():
        if not isinstance(norm, _BatchNorm):
            continue
        own = list(norm.parameters(recurse=False))
        is_fixed = trains and bool(own) and not any(p.requires_grad for p in own)
        if is_fixed or (beside and not norm.training):
            setattr(norm, _MARK, True)
            frozen.append(name)
    return frozen


def is_frozen(norm: nn.Module) -> bool:
    """Whether `mark_frozen` has marked a norm."""
    return bool(getattr(norm, _MARK, False))


def train_mode(model: nn.Module) -> None:
    """Set training mode, with frozen batch norms left in eval mode."""
    model.train()
    for norm in batch_norms(model):
        if is_frozen(norm):
            norm.eval()


@contextlib.contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Training mode as it is, but forward passes leave the running statistics unchanged."""
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    for norm, count in zip(norms, counts, strict=True):
        norm.momentum = 0.0
        norm.num_batches_tracked = None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked = count


@contextlib.contextmanager
def _estimating(model: nn.Module, norms: list[_BatchNorm]) -> Iterator[None]:
    """Let the norms take the cumulative mean of their inputs, with the rest in eval mode."""
    momenta = [norm.momentum for norm in norms]
    with evaluating(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # None selects the cumulative mean in torch
            norm.train()
        try:
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
