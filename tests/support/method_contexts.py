"""Inputs of pruning methods: small networks of the families with random images, and digits."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pruning_client.data.batches import ImageBatches
from pruning_client.data.sources import as_batches
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context
from tests.support import analytic
from tests.support.families import traced_family
from tests.support.tiny_networks import digits

#: Families that every method has to prune.
FAMILIES = ("residual", "vgg", "mobilenet-v2", "densenet")
_CLASSES = 10


def random_batches(shapes: list[tuple[int, ...]], count: int = 24) -> ImageBatches:
    """Random inputs of these shapes and random labels, eight a batch."""
    random = torch.Generator().manual_seed(1)
    return ImageBatches(
        inputs=tuple(torch.randn(count, *shape, generator=random) for shape in shapes),
        target=torch.randint(_CLASSES, (count,), generator=random),
        batch_size=8,
        index=torch.arange(count),
    )


def family_context(name: str, **changes: Any) -> Context:
    """A family's network with random weights, and a target halfway between the lowest latency and
    that of the dense network.
    """
    model, traced = traced_family(name)
    predictor = analytic.predictor(traced.space)
    bounds = predictor.sidecar.lowest_ms, predictor.sidecar.dense_ms
    given: dict[str, Any] = {
        "model": copy.deepcopy(model),
        "traced": traced,
        "train": random_batches([tuple(x.shape[1:]) for x in traced.example]),
        "predictor": predictor,
        "target_ms": sum(bounds) / 2,
    }
    return Context(**{**given, **changes})


def digits_context(
    model: nn.Module, traced: Traced, predictor: Predictor, share: float, **changes: Any
) -> Context:
    """A copy of a network for digits, the digits, and a share of its latency as the target."""
    given: dict[str, Any] = {
        "model": copy.deepcopy(model),
        "traced": traced,
        "train": as_batches(digits(), batch_size=64),
        "predictor": predictor,
        "target_ms": share * predictor.sidecar.dense_ms,
    }
    return Context(**{**given, **changes})


def inputs_of(context: Context) -> tuple[Tensor, ...]:
    """All inputs of the training data."""
    assert isinstance(context.train, ImageBatches)
    return context.train.inputs
