from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from latency_service.spaces.layers import layers, total_macs, total_parameters
from latency_service.spaces.schemas import AxisSlice, Manifest, Segment, ShapeValue, WidthGroup
from latency_service.spaces.slicing import BATCH, build_space, materialise
from latency_service.spaces.weightless import make_weightless
from tests.support import small_spaces


def test_layers_say_what_is_computed() -> None:
    first, second, third, last = layers(small_spaces.space())
    assert [layer.kind for layer in (first, second, third, last)] == [
        "conv",
        "depthwise",
        "conv",
        "linear",
    ]
    widths = np.array([4.0, 5.0])
    assert first.macs(widths) == 4 * 3 * 9 * 4
    assert second.macs(widths) == 4 * 9 * 4
    assert second.c_in.at(widths) == second.c_out.at(widths) == 4
    assert third.macs(widths) == 5 * 4 * 4
    assert last.macs(widths) == 5 * (5 * 4)


def test_totals_agree_with_the_materialised_graph() -> None:
    space = small_spaces.space()
    for widths in ([6, 8], [2, 1], [3, 7]):
        model = materialise(space, widths)
        counted = sum(int(np.prod(t.dims)) for t in model.graph.initializer if t.name != "shape")
        assert total_parameters(space, widths) == counted
    batch = np.array([[6, 8], [2, 1]], float)
    assert total_macs(space, batch).shape == (2,)
    assert total_macs(space, batch)[0] == total_macs(space, [6, 8])


def _turned_manifest() -> Manifest:
    eight = [Segment(group=0, count=4, repeat=2)]
    return Manifest(
        name="turned",
        groups=[WidthGroup(name="g", width=4, minimum=1, unit=2, members=["up"])],
        slices=[
            AxisSlice(initializer="up", axis=0, segments=eight),
            AxisSlice(initializer="fc", axis=1, segments=[Segment(group=0, count=4, repeat=3)]),
        ],
        values=[ShapeValue(node="first", attribute="group", divisor=2, segments=eight)],
    )


def test_grouped_transposed_convolution_and_transposed_matrix() -> None:
    weights = {"up": (8, 3, 2, 2), "fc": (5, 12)}
    tensors = [
        numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()
    ]
    nodes = [
        helper.make_node("ConvTranspose", ["x", "up"], ["y"], "first", strides=[2, 2], group=4),
        helper.make_node("Transpose", ["y"], ["last"], "channels_last", perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["fc"], ["turned"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["last", "turned"], ["out"], "linear"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [BATCH, 8, 2, 2])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [BATCH, 4, 4, 5])
    graph = helper.make_graph(nodes, "turned", [x], [out], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    up, linear = layers(build_space(make_weightless(model), _turned_manifest()))
    three = np.array([3.0])
    assert (up.kind, up.c_in.at(three), up.c_out.at(three), up.depth.at(three)) == (
        "transposed",
        6,
        9,
        2,
    )
    assert up.macs(three) == 6 * 3 * 4 * 4
    assert (linear.kind, linear.c_in.at(three), linear.c_out.at(three)) == ("linear", 9, 5)
    assert linear.macs(three) == 9 * 5 * 16
