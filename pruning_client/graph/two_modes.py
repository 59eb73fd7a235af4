"""A module with one graph for eval mode and another for training mode, over the same tensors."""

from __future__ import annotations

from collections.abc import Callable
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
        for graph in graphs:
            for name in graph._non_persistent_buffers_set:
                self.register_buffer(name, graph.get_buffer(name), persistent=False)
        self._graphs = tuple(graph.graph for graph in graphs)
        self._forwards = self._compile()
        self.training = model.training

    def forward(self, *inputs: Any) -> Any:
        """Outputs of the mode's graph."""
        return self._forwards[self.training](self, *inputs)

    def _compile(self) -> tuple[Callable[..., Any], ...]:
        return tuple(type(fx.GraphModule(self, graph)).forward for graph in self._graphs)

    def __getstate__(self) -> dict[str, Any]:
        """State without the compiled functions, which cannot be sent to other processes."""
        return {name: value for name, value in self.__dict__.items() if name != "_forwards"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._forwards = self._compile()
