"""Statistics of batch norms after channels were removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruning_client.data.batches import Batches


def recalibrate_batch_norm(model: nn.Module, data: Batches, *, batches: int, seed: int = 0) -> None:
    """Estimate the statistics of all batch norms anew, as plain means over some batches; nothing
    else changes.

    Removing channels shifts the distributions that the statistics describe: without this step
    accuracy after removal says nothing (docs/design.md, fact 8).
    """
    norms = [norm for norm in batch_norms(model) if norm.track_running_stats]
    if not norms or batches < 1:
        return
    device = next(model.parameters()).device
    with _estimating(model, norms), torch.no_grad():
        for images, _ in islice(data.shuffled(seed), batches):
            model(images.to(device))


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """All batch norms of a network."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@contextlib.contextmanager
def _estimating(model: nn.Module, norms: list[_BatchNorm]) -> Iterator[None]:
    """While open, the norms take the cumulative mean of what they see; the rest is in eval mode."""
    momenta = [norm.momentum for norm in norms]
    was_training = model.training
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's sign for the cumulative mean
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)
