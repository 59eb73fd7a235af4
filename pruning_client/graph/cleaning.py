"""Removal of what an export leaves in a graph, and names of the outputs."""

from __future__ import annotations

import onnx
from onnx import ModelProto, NodeProto, helper

_PRODUCER = "latency-service"


def clean(model: ModelProto) -> None:
    """Drop nodes that the outputs do not need, and metadata about the export."""
    graph = model.graph
    nodes, needed = _needed(graph)
    bare = onnx.GraphProto(
        node=nodes, input=map(_bare, graph.input), output=map(_bare, graph.output)
    )
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in needed:
            del graph.initializer[index]
    for field, _ in graph.ListFields():
        if field.name != "initializer":
            graph.ClearField(field.name)
    graph.MergeFrom(bare)
    graph.name = "network"
    model.ClearField("metadata_props")
    model.ClearField("functions")
    model.producer_name = _PRODUCER
    model.producer_version = ""


def _needed(graph: onnx.GraphProto) -> tuple[list[NodeProto], set[str]]:
    """Nodes and names of tensors that the outputs depend on."""
    needed = {entry.name for entry in graph.output}
    nodes: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.insert(0, node)
    return nodes, needed


def name_outputs(model: ModelProto) -> None:
    """Name the outputs `output`, or `output_0` and so on, not after the last operator."""
    outputs = [entry.name for entry in model.graph.output]
    names = (
        ["output"] if len(outputs) == 1 else [f"output_{index}" for index in range(len(outputs))]
    )
    inputs = {entry.name for entry in model.graph.input}
    renamed = {old: new for old, new in zip(outputs, names, strict=True) if old not in inputs}
    for node in model.graph.node:
        for names_in_node in (node.input, node.output):
            for index, name in enumerate(names_in_node):
                names_in_node[index] = renamed.get(name, name)
    for entry in model.graph.output:
        entry.name = renamed.get(entry.name, entry.name)


def _bare(entry: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    tensor = entry.type.tensor_type
    shape = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim
    ]
    return helper.make_tensor_value_info(entry.name, tensor.elem_type, shape)
