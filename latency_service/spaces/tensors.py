"""What is known of a graph's tensors while their sizes are computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

Shape = tuple[int, ...]
Known = Shape | None
#: Numbers that are followed through the graph, in one tensor.
FOLLOWED = 64
INTEGERS = (TensorProto.INT64, TensorProto.INT32)


@dataclass(kw_only=True)
class Tensors:
    """What is known of tensors, by their names."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    #: Short lists of whole numbers, which shapes are made of.
    values: dict[str, tuple[int, ...]] = field(default_factory=dict)
    #: Short lists of other numbers, such as the scales of a Resize.
    factors: dict[str, tuple[float, ...]] = field(default_factory=dict)
    #: Names of tensors of whole numbers: shape inference follows their values.
    integers: set[str] = field(default_factory=set)

    def shape(self, node: NodeProto, index: int) -> Known:
        return self.shapes.get(node.input[index]) if index < len(node.input) else None

    def value(self, node: NodeProto, index: int, attribute: str = "") -> Known:
        """Whole numbers that an input, or in older opsets an attribute, gives."""
        if index < len(node.input) and node.input[index]:
            return self.values.get(node.input[index])
        given = attributes(node).get(attribute)
        return tuple(given) if isinstance(given, list) else None

    def sizes(self, node: NodeProto, index: int, attribute: str = "") -> Known:
        """Whole numbers that are the sizes of a tensor.

        Raises:
            ValueError: there are more than a tensor has dimensions.
        """
        given = self.shape(node, index)
        if given is not None and math.prod(given) > FOLLOWED:
            raise ValueError("too many sizes")
        return self.value(node, index, attribute)

    def add_constant(self, name: str, tensor: TensorProto) -> None:
        """Keep what a constant says."""
        self.shapes[name] = tuple(tensor.dims)
        if tensor.data_type in INTEGERS:
            self.integers.add(name)
        if tensor.data_location != TensorProto.DEFAULT or len(tensor.dims) > 1:
            return
        if math.prod(tensor.dims) <= FOLLOWED:
            self._add_values(name, tensor)

    def _add_values(self, name: str, tensor: TensorProto) -> None:
        array = np.ravel(numpy_helper.to_array(tensor))
        if tensor.data_type in INTEGERS:
            self.values[name] = tuple(int(value) for value in array)
        elif tensor.data_type == TensorProto.FLOAT:
            self.factors[name] = tuple(float(value) for value in array)


def attributes(node: NodeProto) -> dict[str, Any]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
