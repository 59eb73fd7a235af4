"""Graphs become canonical whatever the exporter computes in them."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from pruning_client.graph.normalise import normalise


@pytest.mark.parametrize(
    ("arithmetic", "end"),
    [
        ("end = Div(size, three)", 2),
        ("end = Mod(three, size)", 3),
        ("less = Neg(three)  end = Mod<fmod=1>(less, size)", 5),
        ("low = Min(size, three)  end = Max(low, one)", 3),
        ("less = Sub(three, size)  end = Abs(less)", 5),
    ],
)
def test_bounds_of_a_slice_that_depend_on_sizes_become_constants(arithmetic: str, end: int) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        agraph (float[N, 8] x) => (float[N, M] y)
        <int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] three = {{3}}>
        {{
            size = Shape<start=1, end=2>(x)
            {arithmetic}
            y = Slice(x, zero, end, one)
        }}"""
    )
    [node] = normalise(model, set()).graph.node
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    np.testing.assert_array_equal(constants[node.input[2]], [end])
