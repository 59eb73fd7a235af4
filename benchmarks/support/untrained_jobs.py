"""Whole pruning jobs of untrained networks, with uniform widths and without fine-tuning.

How close a delivery comes to its budget depends on the predictor, the lattice and the closed loop,
not on what the network has learnt.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.support.networks import mobilenet_v2, resnet20, resnet56, vgg11
from pruning_client import PruneResult, PruningWarning, prune
from pruning_client.methods.magnitude import Uniform
from pruning_client.service.campaign import Campaign
from pruning_client.service.embedded import Embedded
from pruning_client.training.config import Training

NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "resnet20": resnet20,
    "resnet56": resnet56,
    "vgg11": vgg11,
    "mobilenet_v2": mobilenet_v2,
}
#: Budgets: shares of the dense network's own measured latency.
SHARES = (0.4, 0.525, 0.65, 0.775, 0.9)
_IMAGES = 64


def untrained(name: str) -> tuple[nn.Module, Tensor]:
    """A network in eval mode and an example input; the same weights every time."""
    torch.manual_seed(0)
    model, example = NETWORKS[name]()
    return model.eval(), example


def prune_untrained(service: Embedded, name: str, share: float, quick: bool) -> PruneResult:
    """Prune a network for a share of its latency.

    Raises:
        PruningError: The budget cannot be reached, or leaves nothing to do.
    """
    model, _ = untrained(name)
    random = torch.Generator().manual_seed(0)
    images = torch.rand(_IMAGES, 3, 32, 32, generator=random), torch.arange(_IMAGES) % 10
    with warnings.catch_warnings():
        # of course it is no better than chance
        warnings.simplefilter("ignore", PruningWarning)
        return prune(
            model,
            images,
            budget=f"{100 * share:g}%",
            target=service.device,
            method=Uniform(),
            training=Training(epochs=0, recalibration_batches=1, batch_size=32),
            campaign=Campaign(architectures=24 if quick else 100, repeats=4 if quick else 10),
            client=service.client,
        )
