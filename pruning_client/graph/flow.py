"""Propagation of atoms through the operator graph, to the positions of every tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from latency_service.core.arrays import Array, Ints
from pruning_client.graph.arithmetic import evaluate
from pruning_client.graph.changing import shapes_at
from pruning_client.graph.labels import FIXED, Atoms, AtomTable

#: Atoms of a tensor, one array for each axis.
Labels = list[Atoms]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A number in the graph that depends on widths: ``positions kept / divisor``."""

    #: Node and attribute, or an initializer of integers and the index of an element.
    node: str | None = None
    attribute: str | None = None
    initializer: str | None = None
    index: int | None = None
    divisor: int = 1
    #: Atoms of the counted positions [P].
    atoms: Atoms


@dataclass
class Flow:
    """Atoms of all tensors of a graph, and constraints found during propagation."""

    model: ModelProto
    #: Rule of each operator.
    rules: Mapping[str, Callable[[Flow, NodeProto], None]]
    #: The user's module of each node, in words, as far as it is known.
    places: Mapping[str, str] = field(default_factory=dict)
    table: AtomTable = field(default_factory=AtomTable)
    labels: dict[str, Labels] = field(default_factory=dict)
    counted: list[Counted] = field(default_factory=list)
    #: Positions of each piece of a split tensor: a width group is never spread over pieces.
    pieces: list[Atoms] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shapes = shapes_at(self.model, 1)
        self.tensors = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self._values: dict[str, Array] = {}
        self.makers = {name: node for node in self.model.graph.node for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def run(self) -> None:
        """Apply every operator's rule in the order of the graph."""
        for tensor in self.tensors.values():
            self.labels[tensor.name] = self._of_initializer(tensor)
        for entry in self.model.graph.input:
            self.labels[entry.name] = self.fixed(self.shapes[entry.name])
        for node in self.model.graph.node:
            self._apply(node)
        for entry in self.model.graph.output:
            self.pin_all(entry.name, f"the network's output {entry.name!r}")

    def value(self, name: str) -> Array | None:
        """Value of an initializer, or None if the tensor is absent or computed."""
        if name not in self.tensors:
            return None
        if name not in self._values:
            self._values[name] = np.asarray(numpy_helper.to_array(self.tensors[name]))
        return self._values[name]

    def input_value(self, node: NodeProto, index: int) -> Array | None:
        return self.value(node.input[index]) if index < len(node.input) else None

    def computed_value(self, node: NodeProto, index: int) -> Ints | None:
        """Value of an integer input at a batch size of one, or None if it depends on values of
        tensors.
        """
        return evaluate(node.input[index], self.makers, self.tensors, self.shapes)

    def holders(self, name: str) -> list[tuple[str, int] | None]:
        """Constant that holds each element of a computed tensor of sizes, and where, or None for
        sizes that are computed.
        """
        if name in self.tensors:
            return [(name, index) for index in range(self.shapes[name][0])]
        maker = self.makers.get(name)
        if maker is None or maker.op_type != "Concat":
            return [None] * self.shapes[name][0]
        return [holder for part in maker.input for holder in self.holders(part)]

    def attributes(self, node: NodeProto) -> dict[str, Any]:
        return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}

    def of(self, name: str) -> Labels:
        """Labels of a tensor."""
        return self.labels[name]

    def give(self, name: str, labels: Labels) -> None:
        """Set the labels of a tensor; they must match its shape."""
        if [len(atoms) for atoms in labels] != self.shapes[name]:
            raise Unsupported(f"its shape {self.shapes[name]} is not understood")
        self.labels[name] = labels

    def fixed(self, shape: Sequence[int]) -> Labels:
        return [np.full(size, FIXED, np.int64) for size in shape]

    def pin_all(self, name: str, reason: str) -> None:
        for atoms in self.labels.get(name, ()):
            self.table.pin(atoms[atoms != FIXED], reason)

    def unite(self, a: Atoms, b: Atoms, node: NodeProto) -> None:
        self.table.unite(
            a, b, f"joined with channels that are never removed at {self.describe(node)}"
        )

    def pin(self, atoms: Atoms, node: NodeProto, why: str) -> None:
        self.table.pin(atoms[atoms != FIXED], f"{why} at {self.describe(node)}")

    def describe(self, node: NodeProto) -> str:
        """A node as errors and reasons name it: the user's module first, then the operator."""
        # nodes that normalising adds are named after those that they belong to
        place = self.places.get(node.name) or self.places.get(node.name.partition(".")[0])
        return self.operator(node) if place is None else f"{place}, {self.operator(node)}"

    @staticmethod
    def operator(node: NodeProto) -> str:
        return f"{node.op_type} {node.name!r}"

    def is_free(self, atoms: Atoms) -> bool:
        """Whether any of these positions may be removed, as far as known."""
        return not bool(np.all(self.table.pinned(atoms)))

    def _of_initializer(self, tensor: TensorProto) -> Labels:
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
            return self.fixed(tensor.dims)
        return [
            self.table.fresh(size) if size > 1 else np.zeros(1, np.int64) for size in tensor.dims
        ]

    def _apply(self, node: NodeProto) -> None:
        missing = [name for name in node.output if name and name not in self.shapes]
        if missing:
            raise UnknownShape(node)
        known = self.rules.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        try:
            if known is None:
                raise Unsupported("no rule is known for this operator")
            known(self, node)
        except Unsupported as error:
            for name in node.input:
                self.pin_all(name, f"{error} ({self.describe(node)})")
            for name in node.output:
                if name:
                    self.labels[name] = self.fixed(self.shapes[name])


class UnknownShape(Exception):
    """The shape of a node's output depends on values of tensors."""

    def __init__(self, node: NodeProto) -> None:
        super().__init__(node.name)
        self.node = node


class Unsupported(Exception):
    """Use of an operator outside its rule; the message is the reason why channels are pinned."""
