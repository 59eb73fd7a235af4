"""A module that computes graphs with the parameters, buffers and norms of a model."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from onnx import ModelProto
from torch import nn

from latency_service.spaces.weightless import without_initializers
from pruning_client.graph.network import holds, make_network

#: Number of values from which a tensor of the model is not held by the graph too.
_LARGE = 256


@dataclass(frozen=True, kw_only=True)
class GraphCode:
    """The graph of one mode, from which its forward pass is made."""

    #: ONNX graph without the large tensors of the model.
    graph: bytes
    #: Names of the inputs.
    inputs: tuple[str, ...]
    #: Outputs of the model, with an `Output` for each tensor.
    structure: Any
    #: Start of the names of the graph's constants.
    prefix: str

    @classmethod
    def of(cls, model: nn.Module, graph: ModelProto, structure: Any, prefix: str) -> Self:
        """The code of a graph; see `make_network`."""
        bare = without_initializers(graph)
        bare.graph.initializer.extend(
            tensor
            for tensor in graph.graph.initializer
            if math.prod(tensor.dims) < _LARGE or not holds(model, tensor.name)
        )
        return cls(
            graph=bare.SerializeToString(),
            inputs=tuple(entry.name for entry in graph.graph.input),
            structure=structure,
            prefix=prefix,
        )


class GraphNetwork(nn.Module):
    """Computes the graph of the mode that it is in, or the only one in both modes.

    Args:
        model: Module whose parameters, buffers and modules the graphs use, under its names.
        graphs: Graphs of eval mode and, if it has its own, of training mode, each with its outputs,
            in which an `Output` stands for each tensor.
    """

    def __init__(self, model: nn.Module, graphs: Sequence[tuple[ModelProto, Any]]) -> None:
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)
        for name, parameter in model.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in model.named_buffers(recurse=False):
            self.register_buffer(name, buffer, name not in model._non_persistent_buffers_set)
        self.training = model.training
        self._codes = tuple(
            # constants of the two graphs differ in name
            GraphCode.of(model, graph, structure, f"constant_{index}_")
            for index, (graph, structure) in enumerate(graphs)
        )
        self.input_names = self._codes[0].inputs
        self._make()

    def _make(self) -> None:
        """Generate the forward passes, which look up modules and tensors by name in their first
        argument.
        """
        known = {name for name, _ in self.named_children()}
        forwards = []
        for code in self._codes:
            graph = ModelProto.FromString(code.graph)
            network = make_network(self, graph, code.structure, code.prefix)
            for name, child in network.named_children():
                if name not in known:
                    self.add_module(name, child)
            for name in network._non_persistent_buffers_set - self._buffers.keys():
                self.register_buffer(name, network.get_buffer(name), persistent=False)
            forwards.append(type(network).forward)
        self._forwards = tuple(forwards)

    def forward(self, *inputs: Any) -> Any:
        """Outputs of the mode's graph."""
        return self._forwards[self.training and len(self._forwards) > 1](self, *inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = self.__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def __getstate__(self) -> dict[str, Any]:
        # generated functions have no module to be imported from
        left_out = ("_forwards", "_compiled_call_impl")
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._make()
