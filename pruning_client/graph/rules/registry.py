"""How a file of rules lists them."""

from __future__ import annotations

from collections.abc import Callable

from onnx import NodeProto

from pruning_client.graph.flow import Flow

Rule = Callable[[Flow, NodeProto], None]


class Registry:
    """The rules of one file, by operator; used as a decorator."""

    def __init__(self) -> None:
        self.known: dict[str, Rule] = {}

    def __call__(self, *operators: str) -> Callable[[Rule], Rule]:
        def register(function: Rule) -> Rule:
            self.known.update(dict.fromkeys(operators, function))
            return function

        return register
