"""The relative error that the theory allows, and the one that is seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Floats, Ints
from pruning_client.data.batch import Batch
from pruning_client.graph.modules import Reader
from pruning_client.graph.space import Traced
from pruning_client.methods.base import Context
from pruning_client.methods.gates import Gates, masks
from pruning_client.methods.pfp import patches
from pruning_client.methods.pfp.sensitivity import TINY, Sensitivities, visit_inputs
from pruning_client.training.outputs import relative_distance

_PHASE = "compare with the dense network"


@dataclass(kw_only=True)
class ErrorsSeen:
    """Relative errors of the positive and of the negative part of pre-activations."""

    largest: float = 0.0
    total: float = 0.0
    count: int = 0
    #: Largest error of each layer, by its name.
    layers: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        return self.total / max(1, self.count)

    def add(self, layer: str, wanted: Tensor, found: Tensor) -> None:
        """Compare parts of pre-activations of the dense network with those found, alike in shape.

        Parts next to zero are left out: they have no relative error.
        """
        counts = wanted > TINY
        errors = ((found - wanted).abs() / wanted)[counts]
        if len(errors):
            self.layers[layer] = max(self.layers.get(layer, 0.0), float(errors.max()))
            self.largest = max(self.largest, self.layers[layer])
            self.total += float(errors.double().sum())
            self.count += len(errors)


def errors_of_layers(
    context: Context, samples: Sequence[Batch], scales: Sequence[Floats]
) -> ErrorsSeen:
    """Errors of every layer's pre-activations for the dense network's inputs of that layer.

    Args:
        scales: Factor of each channel [G][C] in the layers that read it; 0 for removed ones.
    """
    seen = ErrorsSeen()

    def visit(reader: Reader, module: nn.Module, inputs: Tensor) -> None:
        scale = _by_layer(module, along_inputs(reader, scales), inputs)
        for part in patches.by_sign(inputs):
            for chunk in patches.patches(module, part).chunks():
                for weights in patches.signed_weights(module):
                    wanted = patches.pre_activations(weights, chunk)
                    found = patches.pre_activations(weights * scale, chunk)
                    seen.add(reader.module, wanted, found)

    visit_inputs(context, samples, visit, _PHASE)
    return seen


def along_inputs(reader: Reader, scales: Sequence[Floats]) -> Floats:
    """Factor of each position of a layer's input [P]; 1 where there is no channel of a group."""
    factors = np.ones(len(reader.group))
    for group in np.unique(reader.group[reader.group >= 0]):
        where = reader.group == group
        factors[where] = scales[group][reader.channel[where]]
    return factors


def _by_layer(module: nn.Module, factors: Floats, like: Tensor) -> Tensor:
    """Factors [P] in the shape of `patches.weight_matrix` [groups, 1, channels, 1]."""
    groups = 1 if isinstance(module, nn.Linear) else int(getattr(module, "groups", 1))
    return torch.as_tensor(factors, dtype=torch.float32, device=like.device).view(groups, 1, -1, 1)


def error_of_outputs(
    context: Context, samples: Sequence[Batch], keep: Sequence[Ints], pruned: nn.Module
) -> float:
    """Root mean square error of the pruned network's outputs, relative to their standard deviation,
    without any recalibration.

    Args:
        pruned: Full-size network with the weights that follow the choice.
    """
    sizes = [group.width for group in context.traced.space.groups]
    gates = Gates(pruned, context.traced)
    gates.set(masks(keep, sizes, pruned))
    device = next(pruned.parameters()).device
    distances = []
    with torch.no_grad(), gates.attached():
        for batch in samples:
            inputs = batch.to(device).inputs
            found = pruned(*inputs)
            distances.append(len(batch) * float(relative_distance(found, context.model(*inputs))))
    return math.sqrt(sum(distances) / max(1, sum(len(batch) for batch in samples)))


def removed_share(traced: Traced, sensitivities: Sensitivities, keep: Sequence[Ints]) -> float:
    """Upper bound of the removed channels' share of the positive, and of the negative, part of any
    pre-activation, for the samples that were scored.

    A sensitivity is the largest share of a single weight, so that a channel's share is at most its
    sensitivity times the number of taps.
    """
    removed = [np.ones(group.width) for group in traced.space.groups]
    for gone, kept in zip(removed, keep, strict=True):
        gone[kept] = 0
    worst = 0.0
    for reader in traced.readers:
        layer = sensitivities.layers.get(reader.module)
        if layer is None:
            continue
        gone = np.where(reader.group >= 0, along_inputs(reader, removed), 0.0)
        share = layer.taps * float(np.dot(gone, layer.values.double().cpu().numpy()))
        worst = max(worst, share)
    return min(worst, 1.0)
