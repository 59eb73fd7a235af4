"""Unification of small blocks: ADMM, then masked retraining with one gradient for each block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from pruning_client.errors import UsageError
from pruning_client.graph.modules import PRODUCERS
from pruning_client.methods.unification.blocks import Blocks, Pattern, unified
from pruning_client.methods.unification.method import WeightUnification

#: Parameters by their names in the state_dict.
Weights = Mapping[str, nn.Parameter]


def unifiable(model: nn.Module, method: WeightUnification) -> dict[str, nn.Parameter]:
    """Weights of convolutions and linear layers that are trained and not among
    `method.dense_layers`.

    Raises:
        UsageError: There are none, or `dense_layers` names a module that has none.
    """
    layers = {
        name: weight
        for name, module in model.named_modules()
        if isinstance(module, PRODUCERS)
        and (weight := module._parameters.get("weight")) is not None
    }
    unknown = [name for name in method.dense_layers if name not in layers]
    found = {
        f"{name}.weight" if name else "weight": weight
        for name, weight in layers.items()
        if name not in method.dense_layers and weight.requires_grad
    }
    if unknown or not found:
        raise UsageError(
            f"There is no layer {unknown[0]!r} to leave as it is."
            if unknown
            else "The network has no layer whose weights can be unified.",
            f"Its layers: {', '.join(layers) or 'none'}.",
        )
    return found


class BlockProjection:
    """The nearest weights whose blocks have one absolute value each."""

    def __init__(self, weights: Weights, method: WeightUnification) -> None:
        self.blocks = {name: Blocks.of(w.shape, method.block) for name, w in weights.items()}
        self._zeros = method.zeros

    def __call__(self, values: Sequence[Tensor]) -> list[Tensor]:
        return [
            unified(blocks, value, self._zeros)[0]
            for blocks, value in zip(self.blocks.values(), values, strict=True)
        ]

    def fix(self, weights: Weights, values: Sequence[Tensor]) -> dict[str, Pattern]:
        """Set weights to the projection of values, and return its patterns by name."""
        patterns = {}
        for (name, blocks), value in zip(self.blocks.items(), values, strict=True):
            nearest, patterns[name] = unified(blocks, value, self._zeros)
            with torch.no_grad():
                weights[name].copy_(nearest)
        return patterns


@contextlib.contextmanager
def held(weights: Weights, patterns: Mapping[str, Pattern]) -> Iterator[None]:
    """Keep weights in their patterns while the context is open: every gradient is projected, and
    at the end the weights themselves, against an optimiser that treats weights of a block apart.
    """
    releases = [pattern.hold(weights[name]) for name, pattern in patterns.items()]
    try:
        yield
    finally:
        for release in releases:
            release()
    with torch.no_grad():
        for name, pattern in patterns.items():
            weights[name].copy_(pattern.project(weights[name]))
