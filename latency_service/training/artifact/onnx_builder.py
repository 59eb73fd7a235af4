"""A small builder of ONNX graphs in single precision."""

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
    """Nodes and constants, added in order; every name is the builder's own."""

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

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The name of an operator's only output."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """The names of an operator's outputs."""
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def once(self, add: Callable[[Thing, Graph], Added], thing: Thing) -> Added:
        """What `add` returns for an object, and nothing is added again, however often it is asked
        for.
        """
        key = add, id(thing)
        if key not in self._added:
            self._added[key] = thing, add(thing, self)
        added: Added = self._added[key][1]
        return added

    def output(self, name: str, value: str) -> None:
        """Give an inner value the name of a graph output."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))

    def model(self, groups: int) -> ModelProto:
        """The graph of the predictor contract over `groups` widths, checked."""

        def tensor(name: str, *shape: int | str) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        outputs = [tensor(name, "batch") for name in ("latency_ms", "lower_ms", "upper_ms")]
        outputs.insert(1, tensor("gradient", "batch", groups))
        inner = helper.make_graph(
            self.nodes, "predictor", [tensor("widths", "batch", groups)], outputs, self.initializers
        )
        model = helper.make_model(
            inner, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return model
