"""The forward and backward pass of a fitted model as ONNX operators: one emitter per model type.

`export` registers an emitter for every model type that can be served.
"""

from __future__ import annotations

from functools import singledispatch
from typing import NamedTuple

from latency_service.training.artifact.onnx_builder import Graph

#: Name of the graph's input [B, G].
WIDTHS = "widths"


class Emitted(NamedTuple):
    """Names in the graph: latency [B] in ms and its gradient [B, G] in ms per channel."""

    latency: str
    gradient: str


@singledispatch
def emit(model: object, graph: Graph) -> Emitted:
    """Add the forward and backward pass of `model` to `graph`.

    Raises:
        TypeError: the model type has no gradient.
    """
    raise TypeError(f"{type(model).__name__} has no gradient and cannot be served")
