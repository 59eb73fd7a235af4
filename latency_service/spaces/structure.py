"""What a search space's graph may be made of: checked on the parsed file, before any shape is
inferred.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
)

from latency_service.core.graphs import GraphError, is_external, opset_of
from latency_service.spaces.errors import SpaceError
from latency_service.spaces.weightless import WEIGHTLESS, is_weightless

MAX_NODES = 5_000
MAX_INITIALIZERS = 10_000
MAX_ENDS = 256
MAX_NAME = 1_000
MAX_RANK = 8
#: Values of one tensor, of all weights together, and bytes of all values that the file holds.
MAX_ELEMENTS = 1 << 30
MAX_WEIGHTS = 1 << 30
MAX_CONSTANT_BYTES = 4 << 20
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})
#: Numbers in files of the types that the operators' schemas name.
_NUMBERS = {
    getattr(onnx.defs.OpSchema.AttrType, name): number
    for name, number in AttributeProto.AttributeType.items()
    if hasattr(onnx.defs.OpSchema.AttrType, name)
}
_SUBGRAPHS = frozenset({AttributeProto.GRAPH, AttributeProto.GRAPHS})


def check_structure(model: ModelProto) -> None:
    """Check a graph's form.

    Raises:
        SpaceError: it is malformed, has parts that a search space may not have, or goes over a
            limit; the message names what and how much.
    """
    try:
        opset = opset_of(model)
    except GraphError as error:
        raise SpaceError(str(error)) from error
    _check_parts(model)
    graph = model.graph
    _check_counts(graph)
    for entry in [*graph.input, *graph.output, *graph.value_info]:
        _check_value(entry)
    _check_weights(graph)
    for node in graph.node:
        _check_node(node, opset)
    _check_names(graph)


def check_dims(name: str, dims: Iterable[int]) -> int:
    """The number of values of a tensor of this shape.

    Raises:
        SpaceError: the shape is over a limit, or has a size below 1.
    """
    sizes = list(dims)
    if len(sizes) > MAX_RANK:
        raise SpaceError(f"{shown(name)} has {len(sizes)} dimensions, {MAX_RANK} are permitted")
    if any(size < 1 for size in sizes):
        raise SpaceError(f"{shown(name)} has shape {sizes}: every size must be at least 1")
    count = math.prod(sizes)
    if count > MAX_ELEMENTS:
        raise SpaceError(
            f"{shown(name)} of shape {sizes} has {count} values, {MAX_ELEMENTS} are permitted"
        )
    return count


def shown(name: str) -> str:
    """A name as messages show it."""
    return repr(name if len(name) <= 80 else name[:80] + "…")


def _check_parts(model: ModelProto) -> None:
    graph = model.graph
    for what, entries in (
        ("functions", model.functions),
        ("graphs for training", model.training_info),
        ("sparse initializers", graph.sparse_initializer),
    ):
        if entries:
            raise SpaceError(f"it has {len(entries)} {what}, which no search space may have")


def _check_counts(graph: GraphProto) -> None:
    for what, entries, limit in (
        ("nodes", graph.node, MAX_NODES),
        ("initializers", graph.initializer, MAX_INITIALIZERS),
        ("inputs", graph.input, MAX_INITIALIZERS + MAX_ENDS),
        ("outputs", graph.output, MAX_ENDS),
    ):
        if len(entries) > limit:
            raise SpaceError(f"it has {len(entries)} {what}, {limit} are permitted")
    if not graph.node or not graph.output:
        raise SpaceError("it has no nodes, or no outputs")


def _check_value(entry: ValueInfoProto) -> None:
    if not entry.type.HasField("tensor_type"):
        raise SpaceError(f"{shown(entry.name)} is not a tensor")
    shape = entry.type.tensor_type.shape
    check_dims(entry.name, [dim.dim_value if dim.HasField("dim_value") else 1 for dim in shape.dim])


def _check_weights(graph: GraphProto) -> None:
    total = constant_bytes = 0
    for tensor in graph.initializer:
        if is_weightless(tensor):
            total += _weightless(tensor)
        else:
            constant_bytes += constant_size(tensor)
    if total > MAX_WEIGHTS:
        raise SpaceError(f"it has {total} weights, {MAX_WEIGHTS} are permitted")
    for node in graph.node:
        for attribute in node.attribute:
            for tensor in [attribute.t, *attribute.tensors]:
                constant_bytes += constant_size(tensor)
    if constant_bytes > MAX_CONSTANT_BYTES:
        raise SpaceError(
            f"its constants have {constant_bytes} bytes, {MAX_CONSTANT_BYTES} are permitted: "
            "weights are to be given by shape only"
        )


def _weightless(tensor: TensorProto) -> int:
    """Number of values of a weight that is given by its shape."""
    located = [(entry.key, entry.value) for entry in tensor.external_data]
    if located != [("location", WEIGHTLESS)]:
        raise SpaceError(f"the weight {shown(tensor.name)} points at a file")
    if tensor.data_type not in _FLOATS:
        raise SpaceError(f"the weight {shown(tensor.name)} is given by shape only, but no float")
    if not tensor.dims:
        raise SpaceError(f"the weight {shown(tensor.name)} has no dimensions")
    return check_dims(tensor.name, tensor.dims)


def constant_size(tensor: TensorProto) -> int:
    """Bytes of a tensor whose values the file holds.

    Raises:
        SpaceError: it points at a file, its type is not known, or it holds another number of values
            than its shape says.
    """
    if is_external(tensor):
        raise SpaceError(f"the constant {shown(tensor.name)} points at a file")
    if tensor.string_data:
        raise SpaceError(f"the constant {shown(tensor.name)} is made of texts")
    if any(size < 0 for size in tensor.dims) or len(tensor.dims) > MAX_RANK:
        raise SpaceError(f"the constant {shown(tensor.name)} has an invalid shape")
    if tensor.data_type == TensorProto.UNDEFINED and not tensor.ByteSize():
        return 0
    count = math.prod(tensor.dims)
    if count != _held(tensor):
        raise SpaceError(
            f"the constant {shown(tensor.name)} of shape {list(tensor.dims)} does not hold {count} "
            "values"
        )
    return int(tensor.ByteSize())


def _held(tensor: TensorProto) -> int:
    """Number of values that a tensor holds; -1 where the last one is cut."""
    try:
        field = helper.tensor_dtype_to_field(tensor.data_type)
        item_bytes = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError as error:
        raise SpaceError(
            f"the constant {shown(tensor.name)} has the unknown type {tensor.data_type}"
        ) from error
    if tensor.HasField("raw_data"):
        count, rest = divmod(len(tensor.raw_data), item_bytes)
        return -1 if rest else count
    return len(getattr(tensor, field))


def _check_node(node: NodeProto, opset: int) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise SpaceError(f"{_described(node)} is an operator of {shown(node.domain)}, not ONNX's")
    for attribute in node.attribute:
        if attribute.type in _SUBGRAPHS or attribute.HasField("g") or attribute.graphs:
            raise SpaceError(f"{_described(node)} has a graph inside, which no space may have")
        if attribute.ref_attr_name or attribute.HasField("sparse_tensor"):
            raise SpaceError(f"{_described(node)} has an attribute that no space may have")
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError as error:
        raise SpaceError(f"{_described(node)} is no operator of ONNX's opset {opset}") from error
    _check_number(node, "inputs", len(node.input), schema.min_input, schema.max_input)
    _check_number(node, "outputs", len(node.output), schema.min_output, schema.max_output)
    _check_attributes(node, schema)


def _check_attributes(node: NodeProto, schema: onnx.defs.OpSchema) -> None:
    known = schema.attributes
    names = [attribute.name for attribute in node.attribute]
    if len(set(names)) != len(names):
        raise SpaceError(f"{_described(node)} has one attribute twice")
    for attribute in node.attribute:
        wanted = known.get(attribute.name)
        if wanted is None:
            raise SpaceError(f"{_described(node)} has no attribute {shown(attribute.name)}")
        if attribute.type != _NUMBERS.get(wanted.type):
            raise SpaceError(f"{_described(node)}: {shown(attribute.name)} is of another type")
    for name, wanted in known.items():
        if wanted.required and name not in names:
            raise SpaceError(f"{_described(node)} lacks the attribute {name!r}")


def _check_number(node: NodeProto, what: str, count: int, least: int, most: int) -> None:
    if not least <= count <= most:
        raise SpaceError(
            f"{_described(node)} has {count} {what}, from {least} to {most} are permitted"
        )


def _check_names(graph: GraphProto) -> None:
    """Every tensor is made once and before it is used, so that there is no cycle."""
    known = {""}
    weights = [tensor.name for tensor in graph.initializer]
    _add(known, weights, "initializer")
    both = set(weights)
    _add(known, [entry.name for entry in graph.input if entry.name not in both], "input")
    if len({entry.name for entry in graph.input}) != len(graph.input):
        raise SpaceError("two inputs have one name")
    for node in graph.node:
        for name in node.input:
            if name not in known:
                raise SpaceError(
                    f"{_described(node)} reads {shown(name)}, which nothing before it makes: the "
                    "graph has a cycle, a gap, or the wrong order"
                )
        _add(known, [name for name in node.output if name], "output of a node")
    _check_uses(graph, known)


def _check_uses(graph: GraphProto, known: set[str]) -> None:
    missing = [entry.name for entry in graph.output if entry.name not in known or not entry.name]
    if missing:
        raise SpaceError(f"nothing makes the output {shown(missing[0])}")
    names = [node.name for node in graph.node if node.name]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SpaceError(f"two nodes have the name {shown(twice[0])}")
    if any(len(name) > MAX_NAME for name in [*names, *known]):
        raise SpaceError(f"a name is longer than {MAX_NAME} characters")


def _add(known: set[str], names: list[str], what: str) -> None:
    for name in names:
        if name in known:
            raise SpaceError(f"the name {shown(name)} of an {what} is taken, or empty")
        known.add(name)


def _described(node: NodeProto) -> str:
    return f"node {shown(node.name)} ({node.op_type[:80]})"
