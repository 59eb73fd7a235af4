"""Registration of rules by operator."""

from __future__ import annotations

from collections.abc import Callable

from onnx import NodeProto

from pruning_client.graph.flow import Flow

Rule = Callable[[Flow, NodeProto], None]


class Registry:
    """Rules of one module by operator; instances are used as decorators."""

    def __init__(self) -> None:
        self.known: dict[str, Rule] = {}

    def __call__(self, *operators: str) -> Callable[[Rule], Rule]:
        def register(function: Rule) -> Rule:
            self.known.update(dict.fromkeys(operators, function))
            return function

        return register
