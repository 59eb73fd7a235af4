"""A graph that is being changed, with the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

from latency_service.core.arrays import Array, Ints
from latency_service.spaces.weightless import make_weightless
from pruning_client.graph.arithmetic import evaluate

Shapes = dict[str, list[int]]


def shapes_at(model: ModelProto, batch: int) -> Shapes:
    """Inferred shapes of tensors at a batch size, except those that depend on values."""
    fixed = make_weightless(model)
    for entry in fixed.graph.input:
        for dim in entry.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = batch
    fixed.graph.ClearField("value_info")
    for entry in fixed.graph.output:
        entry.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for entry in [*graph.input, *graph.value_info, *graph.output]:
        tensor = entry.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            shapes[entry.name] = [dim.dim_value for dim in tensor.shape.dim]
    return shapes


class Graph:
    """A graph being changed, with its constants and its shapes at batch sizes one and two."""

    def __init__(self, model: ModelProto, parameters: Set[str]) -> None:
        self.model = model
        self.parameters = parameters
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.one: Shapes = {}
        self.two: Shapes = {}
        #: Tensors of sizes that were brought into form.
        self.written: set[str] = set()

    def infer(self) -> None:
        self.one, self.two = shapes_at(self.model, 1), shapes_at(self.model, 2)

    def is_axis(self, name: str, axis: int, one: int, two: int) -> bool:
        """Whether a tensor's axis has these sizes at batch sizes one and two."""
        shapes = (self.one.get(name), self.two.get(name))
        return all(
            s is not None and s[axis] == size for s, size in zip(shapes, (one, two), strict=True)
        )

    def constant(self, node: NodeProto, index: int) -> Array | None:
        """Value of a node's input, or None if it is absent or computed."""
        if index >= len(node.input) or node.input[index] not in self.tensors:
            return None
        return np.asarray(numpy_helper.to_array(self.tensors[node.input[index]]))

    def shapes(self, name: str) -> tuple[list[int], list[int]] | None:
        """Shapes of a tensor at batch sizes one and two, or None if they are not known."""
        one, two = self.one.get(name), self.two.get(name)
        return None if one is None or two is None else (one, two)

    def sizes(self, name: str) -> tuple[Ints, Ints] | None:
        """Values of an integer tensor at batch sizes one and two, or None if they depend on values
        of tensors.
        """
        one, two = (
            evaluate(name, self.makers, self.tensors, shapes) for shapes in (self.one, self.two)
        )
        return None if one is None or two is None else (one, two)

    def insert_before(self, node: NodeProto, *added: NodeProto) -> None:
        nodes = self.model.graph.node
        at = next(index for index, other in enumerate(nodes) if other.name == node.name)
        for offset, new in enumerate(added):
            nodes.insert(at + offset, new)
            self.makers[new.output[0]] = nodes[at + offset]

    def insert_after(self, node: NodeProto, added: NodeProto) -> None:
        nodes = self.model.graph.node
        at = 1 + next(index for index, other in enumerate(nodes) if other.name == node.name)
        nodes.insert(at, added)
        self.makers[added.output[0]] = nodes[at]

    def set_input(self, node: NodeProto, index: int, values: Ints | list[int]) -> None:
        name = f"{node.name}.{index}"
        self.add_constant(name, values)
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = name

    def add_constant(self, name: str, values: Ints | list[int]) -> None:
        """Add a constant of integers, or give one that is there other values."""
        if name not in self.tensors:
            self.tensors[name] = self.model.graph.initializer.add()
        self.tensors[name].CopyFrom(numpy_helper.from_array(np.asarray(values, np.int64), name))


def drop_attribute(node: NodeProto, name: str) -> None:
    kept = [entry for entry in node.attribute if entry.name != name]
    node.ClearField("attribute")
    node.attribute.extend(kept)
