"""Which tensors of a graph are whole numbers, and the values of short lists of them: shapes are
computed from these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onnx import NodeProto, TensorProto

from latency_service.spaces.size_rules import start_end
from latency_service.spaces.tensors import FOLLOWED, INTEGERS, Known, Tensors, attributes


def follow_integers(node: NodeProto, known: Tensors) -> None:
    """Keep which outputs are whole numbers, and the values of short lists of them."""
    output = node.output[0]
    given = attributes(node)
    if node.op_type == "Constant" and isinstance(given.get("value"), TensorProto):
        known.add_constant(output, given["value"])
    elif _makes_integers(node, given, known):
        known.integers.add(output)
        if node.op_type in _VALUES:
            _keep(known, output, _VALUES[node.op_type](node, known))


def _makes_integers(node: NodeProto, given: Mapping[str, Any], known: Tensors) -> bool:
    if node.op_type in ("Shape", "Size", "Range", "NonZero", "ArgMax", "ArgMin"):
        return True
    if node.op_type == "Cast":
        return given.get("to") in INTEGERS
    if node.op_type in ("Constant", "ConstantOfShape"):
        value = given.get("value")
        return "value_ints" in given or (value is not None and value.data_type in INTEGERS)
    return bool(node.input) and all(name in known.integers for name in node.input if name)


def _keep(known: Tensors, name: str, values: Known) -> None:
    if values is not None and len(values) <= FOLLOWED:
        known.values[name] = values


def _values_of_shape(node: NodeProto, known: Tensors) -> Known:
    before = known.shape(node, 0)
    return None if before is None else before[start_end(node)]


def _joined_values(node: NodeProto, known: Tensors) -> Known:
    parts = [known.value(node, index) for index in range(len(node.input))]
    if None in parts or sum(len(part or ()) for part in parts) > FOLLOWED:
        return None
    return tuple(value for part in parts for value in part or ())


def _picked_values(node: NodeProto, known: Tensors) -> Known:
    values = known.value(node, 0)
    indices = known.value(node, 1)
    if values is None or indices is None:
        return None
    return tuple(values[index] for index in indices)


def _same_values(node: NodeProto, known: Tensors) -> Known:
    return known.value(node, 0)


_VALUES: Mapping[str, Callable[[NodeProto, Tensors], Known]] = {
    "Shape": _values_of_shape,
    "Concat": _joined_values,
    "Gather": _picked_values,
    **dict.fromkeys(("Cast", "Identity", "Squeeze", "Unsqueeze"), _same_values),
}
