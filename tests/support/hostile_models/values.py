"""Constants that are huge, of unknown type, or other than their shapes say."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from tests.support.hostile_models.spoiling import add_nodes, make, node, spoilt, weight


def megabytes_of_constants(model: ModelProto) -> None:
    value = np.zeros(2_000_000, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(value, "large"))


def constant_cut_off(model: ModelProto) -> None:
    weight(model, "shape").raw_data = b"\x00" * 15


def constant_of_huge_shape(model: ModelProto) -> None:
    tensor = TensorProto(name="liar", data_type=TensorProto.FLOAT, dims=[1 << 40], float_data=[1.0])
    model.graph.initializer.append(tensor)


def constant_of_unknown_type(model: ModelProto) -> None:
    weight(model, "shape").data_type = 99


def constant_of_texts(model: ModelProto) -> None:
    tensor = TensorProto(name="texts", data_type=TensorProto.STRING, dims=[2])
    tensor.string_data.extend([b"a", b"\xff\xfe"])
    model.graph.initializer.append(tensor)


def weight_of_whole_numbers(model: ModelProto) -> None:
    weight(model, "a").data_type = TensorProto.INT64


def weight_of_unknown_type(model: ModelProto) -> None:
    weight(model, "a").data_type = 99


def extreme_shape(model: ModelProto) -> None:
    extreme = np.array([-(2**63), 2**63 - 1], np.int64)
    weight(model, "shape").CopyFrom(numpy_helper.from_array(extreme, "shape"))


def shape_of_a_million(model: ModelProto) -> None:
    ones = np.ones(400_000, np.int64)
    weight(model, "shape").CopyFrom(numpy_helper.from_array(ones, "shape"))


def numbers_in_an_attribute(model: ModelProto) -> None:
    add_nodes(model, make("Constant", [], "numbers", value_ints=[1] * 500_000))


def gathered_beyond_the_end(model: ModelProto) -> None:
    add_nodes(model, make("Shape", ["x"], "sizes"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([99]), "far"))
    add_nodes(model, make("Gather", ["sizes", "far"], "got", axis=0))
    add_nodes(model, make("Reshape", ["x", "got"], "shaped"))


def empty_constant(model: ModelProto) -> None:
    add_nodes(model, make("Constant", [], "nothing", value=TensorProto(name="t", data_type=1)))
    node(model, "third").input[1] = "nothing"


KINDS = {
    "8 MB of constants": spoilt(megabytes_of_constants),
    "constant cut off": spoilt(constant_cut_off),
    "constant of a huge shape with one value": spoilt(constant_of_huge_shape),
    "constant of unknown type": spoilt(constant_of_unknown_type),
    "constant of texts": spoilt(constant_of_texts),
    "weight of whole numbers": spoilt(weight_of_whole_numbers),
    "weight of unknown type": spoilt(weight_of_unknown_type),
    "shape of extreme numbers": spoilt(extreme_shape),
    "shape of 400,000 numbers": spoilt(shape_of_a_million),
    "500,000 numbers in an attribute": spoilt(numbers_in_an_attribute),
    "gathered beyond the end": spoilt(gathered_beyond_the_end),
    "empty constant": spoilt(empty_constant),
}
