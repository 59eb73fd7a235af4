"""What tracing a model gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from latency_service.spaces.slicing import SearchSpace
from pruning_client.graph.modules import GatePoint, Producer


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A model's search space and how it maps back to the model's modules."""

    space: SearchSpace
    #: the dense network's values by initializer name
    weights: Mapping[str, npt.NDArray[np.generic]]
    gates: list[GatePoint]
    producers: list[Producer]
    #: two images for each input, on the CPU: what the model was traced with
    example: tuple[Tensor, ...]
