"""Result of tracing a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

from latency_service.core.arrays import Array
from latency_service.spaces.slicing import SearchSpace
from latency_service.spaces.weightless import is_weightless
from pruning_client.graph.modules import GatePoint, Producer, Reader

#: A user's function of the trained network that returns the network to export, or None when it has
#: changed the given one.
Deploy = Callable[[nn.Module], nn.Module | None]


@dataclass(frozen=True, kw_only=True)
class GraphForm:
    """A model's graph of one mode with its width groups."""

    space: SearchSpace
    #: Values of the dense network by initializer name.
    weights: Mapping[str, Array]
    #: Outputs of the model, with an `Output` for each tensor.
    structure: Any


@dataclass(frozen=True, kw_only=True)
class DeployedForm:
    """A model's deployed form with the width groups of the form that is trained."""

    hook: Deploy
    graph: GraphForm


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A model's search space and its relation to the model's modules."""

    space: SearchSpace
    #: Values of the dense network by initializer name.
    weights: Mapping[str, Array]
    gates: list[GatePoint]
    producers: list[Producer]
    readers: list[Reader]
    #: Example that the model was traced with: two images for each input, on the CPU.
    example: tuple[Tensor, ...]
    #: Outputs of the model in eval mode, with an `Output` for each tensor.
    structure: Any
    #: Graph of training mode with the same width groups, where it differs from that of eval mode.
    training: GraphForm | None
    #: What is measured and exported in place of the model, where the user gives a hook for it.
    deployed: DeployedForm | None = None

    @property
    def measured(self) -> GraphForm:
        """Graph of the form that is measured and exported."""
        return self._own if self.deployed is None else self.deployed.graph

    @property
    def modes(self) -> list[tuple[bool, GraphForm]]:
        """Graphs of eval mode and, where it differs, of training mode."""
        return [(False, self._own), *([] if self.training is None else [(True, self.training)])]

    @property
    def _own(self) -> GraphForm:
        return GraphForm(space=self.space, weights=self.weights, structure=self.structure)


def stored_weights(graph: ModelProto, bare: ModelProto) -> dict[str, Array]:
    """Values of the initializers of a graph that `bare`, its weightless form, gives by shape."""
    stripped = {tensor.name for tensor in bare.graph.initializer if is_weightless(tensor)}
    return {
        t.name: np.asarray(numpy_helper.to_array(t))
        for t in graph.graph.initializer
        if t.name in stripped
    }
