"""Shapes that are impossible, or that grow beyond all measure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.support.hostile_models.spoiling import (
    add_integers,
    add_nodes,
    make,
    node,
    shape_only,
    spoilt,
    weight,
)


def concatenated_shapes(model: ModelProto) -> None:
    """A shape joined to itself 24 times: 2^26 numbers, 5 GB in shape inference."""
    add_nodes(model, make("Shape", ["x"], "s0"))
    for index in range(24):
        add_nodes(model, make("Concat", [f"s{index}"] * 2, f"s{index + 1}", axis=0))


def long_range(model: ModelProto) -> None:
    for name, value in (("start", 0), ("limit", 1 << 28), ("delta", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    add_nodes(model, make("Range", ["start", "limit", "delta"], "ranged"))


def range_without_step(model: ModelProto) -> None:
    for name, value in (("start", 0), ("limit", 9), ("delta", 0)):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    add_nodes(model, make("Range", ["start", "limit", "delta"], "ranged"))


def sized(operator: str, sizes: list[int]) -> Callable[[], bytes]:
    """`operator` on the image, with sizes that a constant gives."""

    def spoil(model: ModelProto) -> None:
        add_integers(model, "sizes", sizes)
        add_nodes(model, make(operator, ["x", "sizes"], "sized"))

    return spoilt(spoil)


def constant_of_shape(model: ModelProto) -> None:
    add_integers(model, "sizes", [1 << 20, 1 << 20])
    add_nodes(model, make("ConstantOfShape", ["sizes"], "filled"))


def scaled(model: ModelProto) -> None:
    scales = np.array([1, 1, 1e6, 1e6], np.float32)
    model.graph.initializer.append(numpy_helper.from_array(scales, "scales"))
    add_nodes(model, make("Resize", ["x", "", "scales"], "large"))


def scaled_infinitely(model: ModelProto) -> None:
    scales = np.array([1, 1, np.inf, np.nan], np.float32)
    model.graph.initializer.append(numpy_helper.from_array(scales, "scales"))
    add_nodes(model, make("Resize", ["x", "", "scales"], "large"))


def outer_products(model: ModelProto) -> None:
    """Sums of a row and a column."""
    add_integers(model, "column", [1 << 22, 1])
    add_integers(model, "row", [1, 1 << 22])
    for name in ("column", "row"):
        add_nodes(model, make("ConstantOfShape", [name], f"{name}_values"))
    add_nodes(model, make("Add", ["column_values", "row_values"], "square"))


def many_dimensions(model: ModelProto) -> None:
    add_integers(model, "sizes", [1] * 60)
    add_nodes(model, make("Reshape", ["x", "sizes"], "deep"))


def padded(model: ModelProto) -> None:
    node(model, "first").attribute[0].ints[:] = [1 << 40] * 4


def stride_zero(model: ModelProto) -> None:
    node(model, "first").attribute.append(helper.make_attribute("strides", [0, 0]))


def group_zero(model: ModelProto) -> None:
    next(a for a in node(model, "second").attribute if a.name == "group").i = 0


def transposed_convolutions(model: ModelProto) -> None:
    """Each makes the image 1,000 times as wide and high."""
    for index in range(6):
        model.graph.initializer.append(shape_only(f"t{index}", [3, 3, 1, 1]))
        source = "x" if index == 0 else f"u{index - 1}"
        add_nodes(
            model,
            make("ConvTranspose", [source, f"t{index}"], f"u{index}", strides=[1000, 1000]),
        )


def negative_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -2


def huge_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**62


def input_without_shape(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def input_that_is_no_tensor(model: ModelProto) -> None:
    model.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT


def weight_shaped(name: str, dims: list[int]) -> Callable[[], bytes]:
    def spoil(model: ModelProto) -> None:
        weight(model, name).dims[:] = dims

    return spoilt(spoil)


def rank_one_product(model: ModelProto) -> None:
    model.graph.initializer.append(shape_only("vector", [5]))
    add_nodes(model, make("MatMul", ["out", "vector"], "product"))


def macs_beyond_measure(model: ModelProto) -> None:
    """4,000 layers of large kernels, one after another, on a large image."""
    model.graph.input.append(
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 512, 512])
    )
    model.graph.initializer.append(shape_only("wide", [3, 3, 127, 127]))
    for index in range(4000):
        source = "image" if index == 0 else f"wide{index - 1}"
        add_nodes(model, make("Conv", [source, "wide"], f"wide{index}", pads=[63] * 4))


KINDS = {
    "24 concatenated shapes": spoilt(concatenated_shapes),
    "range of 2^28": spoilt(long_range),
    "range without a step": spoilt(range_without_step),
    "expanded to 10^12": sized("Expand", [1, 3, 10**6, 10**6]),
    "tiled to 10^12": sized("Tile", [1, 1, 10**6, 10**6]),
    "padded by 2^40": sized("Pad", [0, 0, 1 << 40, 1 << 40, 0, 0, 0, 0]),
    "padded by a negative size": sized("Pad", [0, 0, -9, -9, 0, 0, 0, 0]),
    "reshaped to other sizes": sized("Reshape", [7, 7]),
    "reshaped with two unknowns": sized("Reshape", [-1, -1]),
    "reshaped around a zero": sized("Reshape", [-1, 0, 0, 0, 0, 0]),
    "constant of a huge shape": spoilt(constant_of_shape),
    "resized by a million": spoilt(scaled),
    "resized by infinity": spoilt(scaled_infinitely),
    "outer product": spoilt(outer_products),
    "60 dimensions": spoilt(many_dimensions),
    "conv padded by 2^40": spoilt(padded),
    "stride 0": spoilt(stride_zero),
    "group 0": spoilt(group_zero),
    "transposed convolutions": spoilt(transposed_convolutions),
    "negative input": spoilt(negative_input),
    "input of 2^62": spoilt(huge_input),
    "input without a shape": spoilt(input_without_shape),
    "input that is no tensor": spoilt(input_that_is_no_tensor),
    "rank-0 weight": weight_shaped("a", []),
    "rank-1 weight": weight_shaped("a", [6]),
    "rank-0 matrix": weight_shaped("fc", []),
    "rank-1 matrix": weight_shaped("fc", [5]),
    "rank-1 matrix product": spoilt(rank_one_product),
    "negative weight": weight_shaped("a", [6, -3, 3, 3]),
    "weight of size 0": weight_shaped("a", [6, 0, 3, 3]),
    "weight of 2^124 values": weight_shaped("a", [2**31] * 4),
    "weight that overflows to its size": weight_shaped("b", [8, 6, 2**32, 2**32]),
    "weight of 100 dimensions": weight_shaped("a", [1] * 100),
    "weight for other channels": weight_shaped("b", [8, 7, 1, 1]),
    "macs beyond measure": spoilt(macs_beyond_measure),
}
