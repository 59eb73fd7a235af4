"""What tracing a model gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from latency_service.core.arrays import Array
from latency_service.spaces.slicing import SearchSpace
from pruning_client.graph.modules import GatePoint, Producer


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A model's search space and how it maps back to the model's modules."""

    space: SearchSpace
    #: the dense network's values by initializer name
    weights: Mapping[str, Array]
    gates: list[GatePoint]
    producers: list[Producer]
    #: two images for each input, on the CPU: what the model was traced with
    example: tuple[Tensor, ...]
