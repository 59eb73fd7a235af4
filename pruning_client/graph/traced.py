"""Result of tracing a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from latency_service.core.arrays import Array
from latency_service.spaces.slicing import SearchSpace
from pruning_client.graph.modules import GatePoint, Producer


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A model's search space and its relation to the model's modules."""

    space: SearchSpace
    #: Values of the dense network by initializer name.
    weights: Mapping[str, Array]
    gates: list[GatePoint]
    producers: list[Producer]
    #: Example that the model was traced with: two images for each input, on the CPU.
    example: tuple[Tensor, ...]
