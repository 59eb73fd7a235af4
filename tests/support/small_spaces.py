"""A search space written by hand: no torch, every kind of thing that follows a width."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from latency_service.spaces.schemas import AxisSlice, Manifest, Segment, ShapeValue, WidthGroup
from latency_service.spaces.slicing import BATCH, SearchSpace, build_space
from latency_service.spaces.weightless import make_weightless

WIDTHS = (6, 8)


def dense_weights(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    shapes = {"a": (6, 3, 3, 3), "depthwise": (6, 1, 3, 3), "b": (8, 6, 1, 1), "fc": (5, 8 * 4)}
    return {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }


def graph() -> ModelProto:
    """conv a -> depthwise -> conv b -> flatten to 8x4 -> linear."""
    weights = [numpy_helper.from_array(value, name) for name, value in dense_weights().items()]
    shape = numpy_helper.from_array(np.array([0, 32], np.int64), "shape")
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["y0"], "first", pads=[1] * 4),
        helper.make_node("Conv", ["y0", "depthwise"], ["y1"], "second", pads=[1] * 4, group=6),
        helper.make_node("Conv", ["y1", "b"], ["y2"], "third"),
        helper.make_node("Reshape", ["y2", "shape"], ["y3"], "flat"),
        helper.make_node("Gemm", ["y3", "fc"], ["out"], "last", transB=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [BATCH, 3, 2, 2])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [BATCH, 5])
    body = helper.make_graph(nodes, "small", [x], [out], [*weights, shape])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def manifest() -> Manifest:
    a = Segment(group=0, count=6)
    b = Segment(group=1, count=8)
    pixels = Segment(group=1, count=8, repeat=4)
    return Manifest(
        name="small",
        groups=[
            WidthGroup(name="a", width=6, minimum=2, members=["a", "depthwise"]),
            WidthGroup(name="b", width=8, minimum=1, members=["b"]),
        ],
        slices=[
            AxisSlice(initializer="a", axis=0, segments=[a]),
            AxisSlice(initializer="depthwise", axis=0, segments=[a]),
            AxisSlice(initializer="b", axis=0, segments=[b]),
            AxisSlice(initializer="b", axis=1, segments=[a]),
            AxisSlice(initializer="fc", axis=1, segments=[pixels]),
        ],
        values=[
            ShapeValue(node="second", attribute="group", segments=[a]),
            ShapeValue(initializer="shape", index=1, segments=[pixels]),
        ],
    )


def space() -> SearchSpace:
    return build_space(make_weightless(graph()), manifest())
