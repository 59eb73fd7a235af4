"""Delivered models: what the service refuses, and what only an agent can find out."""

from __future__ import annotations

from functools import partial

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.support.hostile_models import graphs, shapes, values
from tests.support.hostile_models.spoiling import (
    Spoil,
    add_nodes,
    make,
    node,
    spoilt,
    valid_model,
    weight,
)

_spoilt = partial(spoilt, valid=valid_model)


def external() -> TensorProto:
    tensor = TensorProto(
        name="secret", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL, dims=[4]
    )
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    return tensor


def external_weight(model: ModelProto) -> None:
    weight(model, "a").ClearField("raw_data")
    weight(model, "a").data_location = TensorProto.EXTERNAL
    weight(model, "a").external_data.add(key="location", value="/etc/passwd")


def external_in_an_attribute(model: ModelProto) -> None:
    add_nodes(model, make("Constant", [], "constant", value=external()))


def external_in_a_subgraph(model: ModelProto) -> None:
    ends = [helper.make_tensor_value_info("b", TensorProto.FLOAT, [4])]
    inner = helper.make_node("Identity", ["secret"], ["b"])
    branch = helper.make_graph([inner], "branch", [], ends, [external()])
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    add_nodes(model, make("If", ["yes"], "chosen", then_branch=branch, else_branch=branch))


def external_sparse(model: ModelProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(external())


def external_by_its_data_only(model: ModelProto) -> None:
    """The location is said, but not that it holds."""
    weight(model, "a").external_data.add(key="location", value="/etc/passwd")


def both_conv_inputs_gone(model: ModelProto) -> None:
    del node(model, "first").input[:]


def endless_loop(model: ModelProto) -> None:
    """A loop of 2^62 turns, whose result is the model's."""
    ends = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "on")]
    turn = helper.make_tensor_value_info("turn", TensorProto.INT64, [])
    numbers = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 5])
        for name in ("value", "next")
    ]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["value", "value"], ["next"]),
        ],
        "body",
        [turn, ends[0], numbers[0]],
        [ends[1], numbers[1]],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**62), "turns"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    node(model, "last").output[0] = "before"
    model.graph.node.append(
        helper.make_node("Loop", ["turns", "yes", "before"], ["out"], "loop", body=body)
    )


def hundred_gigabytes(model: ModelProto) -> None:
    """The image, expanded."""
    sizes = np.array([1, 3, 2, 8_000_000_000], np.int64)
    model.graph.initializer.append(numpy_helper.from_array(sizes, "sizes"))
    _output(model, make("Expand", ["column", "sizes"], "large"), 4)
    model.graph.initializer.append(
        numpy_helper.from_array(np.ones((1, 3, 2, 1), np.float32), "column")
    )


def folded_range(model: ModelProto) -> None:
    """Numbers that ONNX Runtime computes before it runs anything."""
    for name, value in (("start", 0), ("limit", 1 << 36), ("delta", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    _output(model, make("Range", ["start", "limit", "delta"], "ranged"), 1, TensorProto.INT64)


def dynamic_image(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def image_of_texts(model: ModelProto) -> None:
    entry = helper.make_tensor_value_info("words", TensorProto.STRING, [1])
    model.graph.input.append(entry)
    model.graph.node.append(helper.make_node("Identity", ["words"], ["echo"], "echo"))


def image_of_a_terabyte(model: ModelProto) -> None:
    model.graph.input.append(
        helper.make_tensor_value_info("sky", TensorProto.FLOAT, [1, 1 << 19, 1 << 19])
    )
    _output(model, make("ReduceMax", ["sky"], "highest"), 3)


def divided_by_zero(model: ModelProto) -> None:
    zeros = np.zeros(4, np.int64)
    model.graph.initializer.append(numpy_helper.from_array(zeros, "zeros"))
    add_nodes(model, make("Shape", ["x"], "sizes"))
    _output(model, make("Mod", ["sizes", "zeros"], "rest"), 1, TensorProto.INT64)


def _output(model: ModelProto, last: NodeProto, rank: int, kind: int = TensorProto.FLOAT) -> None:
    """Add a node whose result is one of the model's."""
    add_nodes(model, last)
    entry = helper.make_tensor_value_info(last.output[0], kind, [None] * rank)
    model.graph.output.append(entry)


_GRAPHS: dict[str, Spoil] = {
    "no opset": graphs.no_opset,
    "two opsets": graphs.two_opsets,
    "nested functions": graphs.nested_functions,
    "foreign operator": graphs.foreign_operator,
    "unknown operator": graphs.unknown_operator,
    "training graph": graphs.training_graph,
    "cycle": graphs.cycle,
    "self loop": graphs.self_loop,
    "wrong order": graphs.wrong_order,
    "gap": graphs.gap,
    "no inputs": graphs.no_inputs,
    "conv without weight": graphs.conv_without_weight,
    "conv of ten inputs": graphs.conv_of_ten_inputs,
    "conv without inputs": both_conv_inputs_gone,
    "duplicate tensor names": graphs.duplicate_tensors,
    "attribute of another type": graphs.attribute_of_another_type,
    "unknown attribute": graphs.unknown_attribute,
    "external weight": external_weight,
    "external constant in an attribute": external_in_an_attribute,
    "external weight in a subgraph": external_in_a_subgraph,
    "external sparse weight": external_sparse,
    "external by its data only": external_by_its_data_only,
    "constant of a huge shape with one value": values.constant_of_huge_shape,
}
REFUSED = {name: _spoilt(spoil) for name, spoil in _GRAPHS.items()}
PASSING = {
    name: _spoilt(spoil)
    for name, spoil in {
        "endless loop": endless_loop,
        "100 GB": hundred_gigabytes,
        "range of 2^36": folded_range,
        "dynamic image": dynamic_image,
        "image of texts": image_of_texts,
        "image of a terabyte": image_of_a_terabyte,
        "divided by zero": divided_by_zero,
        "24 concatenated shapes": shapes.concatenated_shapes,
        "outer product": shapes.outer_products,
    }.items()
}
