"""Integer arithmetic on shapes inside a graph, evaluated without running the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from latency_service.core.arrays import Ints


def evaluate(
    name: str,
    makers: Mapping[str, NodeProto],
    tensors: Mapping[str, TensorProto],
    shapes: Mapping[str, list[int]],
) -> Ints | None:
    """Value of an integer tensor that depends only on shapes, or None if it depends on values.

    Args:
        makers: Node that produces each tensor.
        tensors: Initializers.
        shapes: Known shapes of tensors.
    """
    if name in tensors:
        return np.asarray(numpy_helper.to_array(tensors[name]))
    node = makers.get(name)
    if node is None:
        return None
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if node.op_type == "Shape":
        shape = shapes.get(node.input[0])
        return (
            None
            if shape is None
            else np.array(shape, np.int64)[attributes.get("start", 0) : attributes.get("end")]
        )
    if node.op_type not in _OPERATIONS:
        return None
    values = [evaluate(entry, makers, tensors, shapes) for entry in node.input if entry]
    if any(value is None for value in values):
        return None
    return np.asarray(_OPERATIONS[node.op_type](attributes, *values))


def _slice(
    _: Any, x: Ints, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None
) -> Ints:
    return x[int(starts[0]) : int(ends[0]) : 1 if steps is None else int(steps[0])]


def _divide(_: Any, a: Ints, b: Ints) -> Ints:
    return np.asarray(np.trunc(a / b)).astype(a.dtype)


def _mod(attributes: Mapping[str, Any], a: Ints, b: Ints) -> Ints:
    return np.asarray(np.fmod(a, b) if attributes.get("fmod") else np.mod(a, b))


_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "Abs": lambda _, x: np.abs(x),
    "Add": lambda _, a, b: a + b,
    "Cast": lambda _, x: x,
    "Concat": lambda attributes, *parts: np.concatenate([np.atleast_1d(part) for part in parts]),
    "Div": _divide,
    "Gather": lambda _, x, index: x[index],
    "Identity": lambda _, x: x,
    "Max": lambda _, *values: np.maximum.reduce(np.broadcast_arrays(*values)),
    "Min": lambda _, *values: np.minimum.reduce(np.broadcast_arrays(*values)),
    "Mod": _mod,
    "Mul": lambda _, a, b: a * b,
    "Neg": lambda _, x: -x,
    "Range": lambda _, start, end, step: np.arange(start, end, step),
    "Reshape": lambda _, x, shape: x.reshape(shape),
    "Slice": _slice,
    "Squeeze": lambda _, x, axes=None: np.squeeze(x),
    "Sub": lambda _, a, b: a - b,
    "Unsqueeze": lambda _, x, axes: np.expand_dims(x, tuple(np.ravel(axes).tolist())),
}
