"""Recalibration of batch norms after channels are removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pruning_client.data.batches import Batches


def recalibrate_batch_norm(model: nn.Module, data: Batches, *, batches: int, seed: int = 0) -> None:
    """Re-estimate the statistics of all batch norms, as plain means over a number of batches.

    Nothing else changes. Removing channels shifts the distributions that the statistics describe:
    without this step the accuracy after removal is meaningless (docs/design.md, fact 8).
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
    """Let the norms take the cumulative mean of their inputs, with the rest in eval mode."""
    momenta = [norm.momentum for norm in norms]
    was_training = model.training
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # None selects the cumulative mean in torch
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(was_training)
