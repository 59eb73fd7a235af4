"""A small builder of ONNX graphs: operators and constants by call, names by the builder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Thing = TypeVar("Thing")
Added = TypeVar("Added")

OPSET = 17
IR_VERSION = 9


class Graph:
    """Nodes and constants in the order in which they were added; the builder chooses their names.

    Values are passed as the names of their results. Constants are float32 unless said otherwise.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._added: dict[tuple[Any, int], tuple[object, Any]] = {}

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """A constant's name."""
        name = f"k{len(self.initializers)}"
        array = np.ascontiguousarray(np.asarray(values, dtype=dtype))
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def axes(self, *values: int) -> str:
        """The name of a constant of int64 values [n]."""
        return self.constant(values, np.int64)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The name of an operator's only output."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """The names of an operator's outputs."""
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def add(self, first: str, second: str) -> str:
        return self.op("Add", first, second)

    def sub(self, first: str, second: str) -> str:
        return self.op("Sub", first, second)

    def mul(self, first: str, second: str) -> str:
        return self.op("Mul", first, second)

    def div(self, first: str, second: str) -> str:
        return self.op("Div", first, second)

    def matmul(self, first: str, second: str) -> str:
        return self.op("MatMul", first, second)

    def maximum(self, first: str, second: str) -> str:
        return self.op("Max", first, second)

    def exp(self, value: str) -> str:
        return self.op("Exp", value)

    def log(self, value: str) -> str:
        return self.op("Log", value)

    def cast(self, value: str, to: int) -> str:
        return self.op("Cast", value, to=to)

    def once(self, add: Callable[[Thing, Graph], Added], thing: Thing) -> Added:
        """The result of `add` for an object; repeated calls add nothing and return the same."""
        key = add, id(thing)
        if key not in self._added:
            self._added[key] = thing, add(thing, self)
        added: Added = self._added[key][1]
        return added

    def output(self, name: str, value: str) -> None:
        """Give an inner value the name of a graph output."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def model(self, groups: int) -> ModelProto:
        """The checked model of the predictor contract over `groups` widths."""
        widths = _tensor("widths", "batch", groups)
        outputs = [
            _tensor("latency_ms", "batch"),
            _tensor("gradient", "batch", groups),
            _tensor("lower_ms", "batch"),
            _tensor("upper_ms", "batch"),
        ]
        inner = helper.make_graph(self.nodes, "predictor", [widths], outputs, self.initializers)
        model = helper.make_model(
            inner, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _tensor(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
