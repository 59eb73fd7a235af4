"""Canonical form of an exported graph, in which every number that depends on a width is one element
of one constant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from pruning_client.graph.changing import Graph, drop_attribute
from pruning_client.graph.cleaning import clean, name_outputs
from pruning_client.graph.targets import freeze

_END = np.iinfo(np.int64).max


def normalise(model: ModelProto, parameters: Set[str]) -> ModelProto:
    """Make shape constants explicit and private, in place, and return the model.

    Reshape and Expand get constant targets in which only the batch axis is symbolic (0 or -1),
    Split gets explicit sizes, Slice gets bounds counted from the front, convolutions lose biases of
    zeros that the exporter added (those not in `parameters`), and no integer constant is shared by
    two nodes.
    """
    _name_nodes(model)
    graph = Graph(model, parameters)
    graph.infer()
    while freeze(graph):
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


def _name_nodes(model: ModelProto) -> None:
    seen: Counter[str] = Counter()
    for index, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}.{seen[name]}"


def _reshape(graph: Graph, node: NodeProto) -> None:
    y = node.output[0]
    if graph.constant(node, 1) is None or y not in graph.one or y not in graph.two:
        return
    dims = [a if a == b else -1 for a, b in zip(graph.one[y], graph.two[y], strict=True)]
    if dims and dims[0] == -1 and graph.is_axis(node.input[0], 0, graph.one[y][0], graph.two[y][0]):
        dims[0] = 0
    if dims.count(-1) <= 1:
        graph.set_input(node, 1, dims)
        drop_attribute(node, "allowzero")


def _split(graph: Graph, node: NodeProto) -> None:
    if (len(node.input) > 1 and node.input[1]) or not set(node.output) <= graph.one.keys():
        return
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0)
    graph.set_input(node, 1, [graph.one[name][axis] for name in node.output])
    drop_attribute(node, "num_outputs")


def _slice(graph: Graph, node: NodeProto) -> None:
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


def _skip_copies(graph: Graph) -> None:
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


def _original(graph: Graph, node: NodeProto) -> str | None:
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


def _bias(graph: Graph, node: NodeProto) -> None:
    value = graph.constant(node, 2)
    if value is not None and node.input[2] not in graph.parameters and not np.any(value):
        del node.input[2:]


def _gather(graph: Graph, node: NodeProto) -> None:
    """Count positions from the front, in a constant of the node's own: they follow widths."""
    value = graph.constant(node, 1)
    x = node.input[0]
    if value is None or value.ndim != 1 or x in graph.tensors or x not in graph.one:
        return
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0)
    size = graph.one[x][axis]
    positions = value.astype(np.int64)
    if node.input[1] in graph.parameters or np.any(positions < 0):
        graph.set_input(node, 1, np.where(positions < 0, positions + size, positions))


def _tile(graph: Graph, node: NodeProto) -> None:
    """Make a Tile that repeats one constant filter for each channel an Expand."""
    repeats = graph.constant(node, 1)
    x = node.input[0]
    maker = graph.makers.get(x)
    if (
        maker is not None
        and maker.op_type == "Expand"
        and graph.one.get(x) == graph.one.get(maker.input[0])
    ):
        # the exporter puts it before each Tile, to add axes
        x = maker.input[0]
    if repeats is None or x not in graph.tensors:
        return
    node.input[0] = x
    if all(size == 1 or times == 1 for size, times in zip(graph.one[x], repeats, strict=True)):
        # a size of 1 keeps that of the input
        node.op_type = "Expand"


_HANDLERS: dict[str, Callable[[Graph, NodeProto], None]] = {
    "Gather": _gather,
    "Reshape": _reshape,
    "Split": _split,
    "Slice": _slice,
    "Tile": _tile,
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
