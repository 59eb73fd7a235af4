"""A module with one graph for eval mode and another for training mode, over the same tensors."""

from __future__ import annotations

from typing import Any

from torch import fx, nn


class TwoModes(nn.Module):
    """Computes the graph of the mode that it is in.

    Args:
        model: Module whose parameters, buffers and modules both graphs use, under its names.
        graphs: Modules of the graphs of eval and training mode, whose constants differ in name.
    """

    def __init__(self, model: nn.Module, graphs: tuple[fx.GraphModule, fx.GraphModule]) -> None:
        super().__init__()
        for name, child in model.named_children():
            self.add_module(name, child)
        for name, parameter in model.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in model.named_buffers(recurse=False):
            self.register_buffer(name, buffer, name not in model._non_persistent_buffers_set)
        known = {name for name, _ in model.named_children()}
        for graph in graphs:
            for name, child in graph.named_children():
                if name not in known:
                    self.add_module(name, child)
            for name in graph._non_persistent_buffers_set:
                self.register_buffer(name, graph.get_buffer(name), persistent=False)
        # generated functions, which look up modules and tensors by name in their first argument
        self._forwards = tuple(type(graph).forward for graph in graphs)
        self.training = model.training

    def forward(self, *inputs: Any) -> Any:
        """Outputs of the mode's graph."""
        return self._forwards[self.training](self, *inputs)
