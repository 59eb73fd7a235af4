"""Canonical form of an exported graph, in which every number that depends on a width is one element
of one constant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from latency_service.core.arrays import Array, Ints
from latency_service.spaces.weightless import make_weightless
from pruning_client.graph.arithmetic import evaluate
from pruning_client.graph.cleaning import clean, name_outputs

Shapes = dict[str, list[int]]
_END = np.iinfo(np.int64).max
#: End of the name of a target whose batch axis is that of the network's input.
_TARGET = ".target"


def normalise(model: ModelProto, parameters: Set[str]) -> ModelProto:
    """Make shape constants explicit and private, in place, and return the model.

    Reshape and Expand get constant targets in which only the batch axis is symbolic (0 or -1),
    Split gets explicit sizes, Slice gets bounds counted from the front, convolutions lose biases of
    zeros that the exporter added (those not in `parameters`), and no integer constant is shared by
    two nodes.
    """
    _name_nodes(model)
    graph = _Graph(model, parameters)
    graph.infer()
    while _freeze_targets(graph):
        graph.infer()
    for node in model.graph.node:
        handler = _HANDLERS.get(node.op_type)
        if handler is not None:
            handler(graph, node)
    _skip_copies(graph)
    _privatise(model)
    clean(model)
    name_outputs(model)
    return model


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


class _Graph:
    """A graph being changed, with its constants and its shapes at batch sizes one and two."""

    def __init__(self, model: ModelProto, parameters: Set[str]) -> None:
        self.model = model
        self.parameters = parameters
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.one: Shapes = {}
        self.two: Shapes = {}

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

    def insert_before(self, node: NodeProto, *added: NodeProto) -> None:
        nodes = self.model.graph.node
        at = next(index for index, other in enumerate(nodes) if other.name == node.name)
        for offset, new in enumerate(added):
            nodes.insert(at + offset, new)
            self.makers[new.output[0]] = nodes[at + offset]

    def set_input(self, node: NodeProto, index: int, values: Ints | list[int]) -> None:
        name = f"{node.name}.{index}"
        if name not in self.tensors:
            self.tensors[name] = self.model.graph.initializer.add()
        self.tensors[name].CopyFrom(numpy_helper.from_array(np.asarray(values, np.int64), name))
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = name


def _name_nodes(model: ModelProto) -> None:
    seen: Counter[str] = Counter()
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}.{seen[name]}"


def _freeze_targets(graph: _Graph) -> bool:
    """Replace computed targets of Reshape and Expand, and bounds of Slice, by constants, and return
    whether any was.
    """
    changed = False
    for node in list(graph.model.graph.node):
        if node.op_type == "Tile":
            _expand_for_tile(graph, node)
        if node.op_type == "ConstantOfShape":
            changed |= _expand_for_constant(graph, node)
        if node.op_type == "Slice":
            changed |= _freeze_bounds(graph, node)
        if node.op_type not in ("Reshape", "Expand") or node.input[1] in graph.tensors:
            continue
        if node.op_type == "Expand" and _follow_batch(graph, node):
            changed = True
            continue
        dims = _constant_target(graph, node)
        if dims is not None and np.count_nonzero(dims == -1) <= 1:
            graph.set_input(node, 1, dims)
            _drop_attribute(node, "allowzero")
            changed = True
    return changed


def _expand_for_tile(graph: _Graph, node: NodeProto) -> None:
    """Make a Tile that repeats one row over the batch, and nothing else, an Expand."""
    shape = graph.one.get(node.input[0])
    two = evaluate(node.input[1], graph.makers, graph.tensors, graph.two)
    if shape is None or shape[0] != 1 or two is None or node.input[1] in graph.tensors:
        return
    if len(two) == len(shape) and two[0] == 2 and np.all(two[1:] == 1):
        # a size of 1 keeps that of the input
        node.op_type = "Expand"


def _expand_for_constant(graph: _Graph, node: NodeProto) -> bool:
    """Make a tensor of one number an Expand of it if its sizes are known but for the batch's."""
    if evaluate(node.input[0], graph.makers, graph.tensors, graph.one) is None:
        return False
    given = (entry.t for entry in node.attribute if entry.name == "value")
    value = next(given, numpy_helper.from_array(np.zeros(1, np.float32)))
    number = graph.model.graph.initializer.add()
    number.CopyFrom(value)
    number.name = f"{node.name}.value"
    graph.tensors[number.name] = number
    target = node.input[0]
    node.CopyFrom(helper.make_node("Expand", [number.name, target], node.output, node.name))
    return True


def _freeze_bounds(graph: _Graph, node: NodeProto) -> bool:
    changed = False
    for index in (1, 2):
        if node.input[index] in graph.tensors:
            continue
        one, two = (
            evaluate(node.input[index], graph.makers, graph.tensors, shapes)
            for shapes in (graph.one, graph.two)
        )
        if one is not None and two is not None and np.array_equal(one, two):
            graph.set_input(node, index, one)
            changed = True
    return changed


def _follow_batch(graph: _Graph, node: NodeProto) -> bool:
    """Let an Expand over the batch take the batch's size from an input of the network, and all
    other sizes from a constant; return whether it is such an Expand and was not in that form.
    """
    targets = [
        evaluate(node.input[1], graph.makers, graph.tensors, shapes)
        for shapes in (graph.one, graph.two)
    ]
    shape = graph.one.get(node.input[0])
    if node.input[1].endswith(_TARGET) or shape is None or any(value is None for value in targets):
        return False
    one, two = (np.asarray(value) for value in targets)
    lead = len(one) - len(shape)
    padded = [1] * lead + shape
    if (one[0], two[0]) != (1, 2) or not np.array_equal(one[1:], two[1:]) or lead < 0:
        return False
    if lead == 0 and graph.is_axis(node.input[0], 0, 1, 2):
        return False
    # 1 keeps the size of the input
    others = [1 if size == held else int(size) for size, held in zip(one, padded, strict=True)][1:]
    names = [f"{node.name}{suffix}" for suffix in (".batch", ".others", _TARGET)]
    source = graph.model.graph.input[0].name
    graph.tensors[names[1]] = graph.model.graph.initializer.add()
    graph.tensors[names[1]].CopyFrom(numpy_helper.from_array(np.array(others, np.int64), names[1]))
    graph.insert_before(
        node,
        helper.make_node("Shape", [source], [names[0]], names[0], start=0, end=1),
        helper.make_node("Concat", names[:2], [names[2]], names[2], axis=0),
    )
    node.input[1] = names[2]
    return True


def _constant_target(graph: _Graph, node: NodeProto) -> Ints | None:
    """Target of a Reshape or Expand with its batch axis symbolic, or None if it depends on
    values.
    """
    one = evaluate(node.input[1], graph.makers, graph.tensors, graph.one)
    two = evaluate(node.input[1], graph.makers, graph.tensors, graph.two)
    if one is None or two is None:
        return None
    if node.op_type == "Expand":
        # 1 keeps the size of the input, which must be the batch's where the target is
        lead = len(one) - len(graph.one.get(node.input[0], one))
        followed = all(
            axis >= lead and graph.is_axis(node.input[0], axis - lead, int(one[axis]), int(size))
            for axis, size in enumerate(two)
            if size != one[axis]
        )
        return np.where(one == two, one, 1) if followed else None
    # -1 is the remaining size, 0 that of the input
    dims = np.where(one == two, one, -1)
    if dims[0] == -1 and graph.is_axis(node.input[0], 0, int(one[0]), int(two[0])):
        dims[0] = 0
    return dims


def _drop_attribute(node: NodeProto, name: str) -> None:
    kept = [entry for entry in node.attribute if entry.name != name]
    node.ClearField("attribute")
    node.attribute.extend(kept)


def _reshape(graph: _Graph, node: NodeProto) -> None:
    y = node.output[0]
    if graph.constant(node, 1) is None or y not in graph.one or y not in graph.two:
        return
    dims = [a if a == b else -1 for a, b in zip(graph.one[y], graph.two[y], strict=True)]
    if dims and dims[0] == -1 and graph.is_axis(node.input[0], 0, graph.one[y][0], graph.two[y][0]):
        dims[0] = 0
    if dims.count(-1) <= 1:
        graph.set_input(node, 1, dims)
        _drop_attribute(node, "allowzero")


def _split(graph: _Graph, node: NodeProto) -> None:
    if (len(node.input) > 1 and node.input[1]) or not set(node.output) <= graph.one.keys():
        return
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0)
    graph.set_input(node, 1, [graph.one[name][axis] for name in node.output])
    _drop_attribute(node, "num_outputs")


def _slice(graph: _Graph, node: NodeProto) -> None:
    """Make bounds non-negative and within the axis, unless the axis depends on the batch."""
    bounds = [graph.constant(node, index) for index in range(1, 4)]
    if (
        any(value is None for value in bounds)
        or not {node.input[0]} <= graph.one.keys() & graph.two.keys()
    ):
        return
    one = graph.one[node.input[0]]
    two = graph.two[node.input[0]]
    starts, ends, axes = (np.array(value, np.int64) for value in bounds)
    steps = graph.constant(node, 4)
    for index, axis in enumerate(axes):
        size = one[axis]
        if size == two[axis] and (steps is None or int(steps[index]) > 0):
            starts[index] = np.clip(starts[index] + size * (starts[index] < 0), 0, size)
            ends[index] = np.clip(ends[index] + size * (ends[index] < 0), 0, size)
    graph.set_input(node, 1, starts)
    graph.set_input(node, 2, ends)


def _skip_copies(graph: _Graph) -> None:
    """Let the readers of a copy read the original, except where the copy is an output.

    Copies are whole slices, and slices that are exactly one part of a concatenation.
    """
    outputs = {entry.name for entry in graph.model.graph.output}
    originals: dict[str, str] = {}
    for node in graph.model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = originals.get(name, name)
        original = _original(graph, node)
        if original is not None and node.output[0] not in outputs:
            originals[node.output[0]] = original


def _original(graph: _Graph, node: NodeProto) -> str | None:
    """Name of the tensor that a node copies, or None."""
    if node.op_type == "Identity":
        return str(node.input[0])
    bounds = [graph.constant(node, index) for index in range(1, 4)]
    steps = graph.constant(node, 4)
    x = node.input[0] if node.input else ""
    if node.op_type != "Slice" or not {x} <= graph.one.keys() & graph.two.keys():
        return None
    if any(value is None or len(value) != 1 for value in bounds) or (
        steps is not None and np.any(steps != 1)
    ):
        return None
    start, end, axis = (int(np.asarray(value)[0]) for value in bounds)
    if start == 0 and end >= graph.two[x][axis] and (axis or end == _END):
        return str(x)
    maker = graph.makers.get(x)
    if maker is None or maker.op_type != "Concat":
        return None
    joined = next(entry.i for entry in maker.attribute if entry.name == "axis")
    parts = [graph.one.get(name) for name in maker.input]
    if (axis - joined) % len(graph.one[x]) or any(part is None for part in parts):
        return None
    edges = np.cumsum([0, *(part[axis] for part in parts if part is not None)]).tolist()
    return next(
        (
            str(name)
            for name, first, last in zip(maker.input, edges[:-1], edges[1:], strict=True)
            if (start, end) == (first, last)
        ),
        None,
    )


def _bias(graph: _Graph, node: NodeProto) -> None:
    value = graph.constant(node, 2)
    if value is not None and node.input[2] not in graph.parameters and not np.any(value):
        del node.input[2:]


_HANDLERS: dict[str, Callable[[_Graph, NodeProto], None]] = {
    "Reshape": _reshape,
    "Split": _split,
    "Slice": _slice,
    "Conv": _bias,
    "ConvTranspose": _bias,
}


def _privatise(model: ModelProto) -> None:
    """Give every reader of an integer constant its own copy."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: Counter[str] = Counter()
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name not in tensors or tensors[name].data_type != TensorProto.INT64:
                continue
            readers[name] += 1
            if readers[name] > 1:
                copy = TensorProto()
                copy.CopyFrom(tensors[name])
                copy.name = node.input[index] = f"{name}.{readers[name]}"
                model.graph.initializer.append(copy)
