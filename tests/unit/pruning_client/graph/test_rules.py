"""The parts of the analysis on their own: atoms, compressed runs, canonical graphs, operators as
torch functions.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

from latency_service.spaces.plan import expand
from pruning_client.graph import proof
from pruning_client.graph.flow import Flow
from pruning_client.graph.labels import FIXED, AtomTable, classes_if_united
from pruning_client.graph.layout import compress
from pruning_client.graph.network import NoTorchForm, make_network
from pruning_client.graph.normalise import normalise
from pruning_client.graph.operators import OPERATORS
from pruning_client.graph.rules import RULES


def test_united_atoms_are_one_class_and_pins_spread() -> None:
    table = AtomTable()
    a, b, c = (table.fresh(3) for _ in range(3))
    table.unite(a, b, "")
    table.pin(b[:1], "first reason")
    table.pin(a[:1], "second reason")
    table.unite(np.full(1, FIXED), c[:1], "joined with pixels")
    assert np.array_equal(table.roots(a), table.roots(b))
    assert table.pinned(a).tolist() == [True, False, False]
    assert table.reason(table.find(int(b[0]))) == "first reason"
    assert table.reason(table.find(int(c[0]))) == "joined with pixels"
    table.unite(c[:1], c[1:2], "")
    assert table.pinned(c).tolist() == [True, True, False]


def test_rows_united_leave_their_components() -> None:
    assert classes_if_united(np.array([[1, 2], [3, 4], [5, 6]])) == 3
    assert classes_if_united(np.array([[1, 2], [2, 3], [4, 4]])) == 2


@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 5)), min_size=1, max_size=40))
def test_compressed_runs_say_the_same(positions: list[tuple[int, int]]) -> None:
    group = np.array([g for g, _ in positions])
    channel = np.array([c if g >= 0 else 0 for g, c in positions])
    found_group, found_channel = expand(compress(group, channel))
    assert np.array_equal(found_group, group)
    assert np.array_equal(found_channel, channel)


@pytest.mark.parametrize(
    ("channels", "runs"),
    [
        (np.arange(64), 1),
        (np.repeat(np.arange(64), 49), 1),
        (np.arange(0, 64, 2), 1),
        (np.concatenate([np.arange(8, 16), np.arange(8)]), 2),
    ],
)
def test_regular_runs_are_short(channels: np.ndarray, runs: int) -> None:
    assert len(compress(np.zeros_like(channels), channels)) == runs


def _model(
    nodes: list[object], constants: dict[str, list[int]], shape: list[int | str]
) -> ModelProto:
    tensors = [
        numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in constants.items()
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _constants(model: ModelProto, node: int) -> list[list[int]]:
    values = {t.name: numpy_helper.to_array(t).tolist() for t in model.graph.initializer}
    return [values[name] for name in model.graph.node[node].input if name in values]


def test_computed_targets_become_constants_with_only_the_batch_open() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "zeros"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    model = normalise(
        _model(nodes, {"zero": 0, "zeros": [0], "rest": [2, 3, -1]}, ["batch", 6, 4, 4]), set()
    )  # type: ignore[dict-item]
    assert [node.op_type for node in model.graph.node] == ["Reshape"]
    assert _constants(model, 0) == [[0, 2, 3, 16]]


def test_batch_merged_with_channels_is_what_is_left() -> None:
    nodes = [helper.make_node("Reshape", ["x", "target"], ["y"])]
    model = normalise(_model(nodes, {"target": [-1, 3, 4, 4]}, ["batch", 6, 4, 4]), set())
    assert _constants(model, 0) == [[-1, 3, 4, 4]]


def test_slices_count_from_the_front_and_splits_name_their_sizes() -> None:
    nodes = [
        helper.make_node("Slice", ["x", "starts", "ends", "axes"], ["a"]),
        helper.make_node("Split", ["a"], ["b", "c"], axis=1, num_outputs=2),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    constants = {"starts": [-4], "ends": [2**63 - 1], "axes": [1]}
    model = normalise(_model(nodes, constants, ["batch", 6, 4, 4]), set())
    assert _constants(model, 0) == [[2], [6], [1]]
    assert _constants(model, 1) == [[2, 2]]


def test_no_two_nodes_share_a_constant() -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["a"]),
        helper.make_node("Squeeze", ["a", "axis"], ["y"]),
    ]
    model = normalise(_model(nodes, {"axis": [1]}, ["batch", 6]), set())
    assert model.graph.node[0].input[1] != model.graph.node[1].input[1]


def test_channels_padded_with_ones_stay() -> None:
    weight = numpy_helper.from_array(np.ones((6, 6, 1, 1), np.float32), "w")
    one = numpy_helper.from_array(np.float32(1), "one")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Pad", ["a", "pads", "one"], ["y"]),
    ]
    model = _model(nodes, {"pads": [0, 1, 0, 0, 0, 0, 0, 0]}, ["batch", 6, 4, 4])
    model.graph.initializer.extend([weight, one])
    flow = Flow(normalise(model, {"w"}), RULES)
    flow.run()
    assert flow.table.pinned(flow.labels["w"][0]).all()
    assert "values other than zero" in flow.table.reason(
        flow.table.find(int(flow.labels["w"][0][0]))
    )


def test_operators_without_a_torch_form_are_named() -> None:
    with pytest.raises(NoTorchForm, match="Det"):
        make_network(
            nn.Identity(),
            _model([helper.make_node("Det", ["x"], ["y"], "odd")], {}, ["batch", 3, 3]),
        )


OPERATIONS = [
    (
        "AveragePool",
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "count_include_pad": 1},
        {},
    ),
    ("Celu", {"alpha": 0.7}, {}),
    ("Clip", {}, {}),
    ("CumSum", {}, {"axis": [1]}),
    (
        "Col2Im",
        {"pads": [1, 1, 1, 1], "strides": [2, 2]},
        {"size": [2, 2], "block": [2, 2]},
    ),
    ("Einsum", {"equation": "bchw->bhwc"}, {}),
    ("DepthToSpace", {"blocksize": 2, "mode": "DCR"}, {}),
    ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, {}),
    ("Elu", {"alpha": 0.7}, {}),
    ("Expand", {}, {"sizes": [2, 8, 4, 4]}),
    ("Flatten", {"axis": 1}, {}),
    ("Gather", {"axis": 1}, {"indices": [3, 0, 5]}),
    ("GlobalAveragePool", {}, {}),
    ("GlobalMaxPool", {}, {}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, {}),
    ("HardSwish", {}, {}),
    ("LeakyRelu", {"alpha": 0.2}, {}),
    ("LogSoftmax", {"axis": 1}, {}),
    ("MaxPool", {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "strides": [2, 2]}, {}),
    ("Mish", {}, {}),
    ("Neg", {}, {}),
    ("Pad", {"mode": "reflect"}, {"pads": [0, 0, 1, 0, 0, 0, 2, 1]}),
    ("Pad", {}, {"pads": [0, 2, 0, 1, 0, 3, 0, 0]}),
    ("ReduceL1", {}, {"axes": [1]}),
    ("ReduceLogSumExp", {}, {"axes": [1, 2]}),
    ("ReduceSumSquare", {}, {"axes": [3]}),
    ("ReduceL2", {}, {"axes": [1]}),
    ("ReduceMax", {"keepdims": 0}, {"axes": [2, 3]}),
    ("ReduceMin", {"keepdims": 0}, {"axes": [1]}),
    ("ReduceMean", {"keepdims": 1}, {"axes": [-1]}),
    ("ReduceSum", {}, {"axes": [1]}),
    ("Reshape", {}, {"shape": [0, 4, 2, -1]}),
    ("Selu", {}, {}),
    ("Slice", {}, {"starts": [1], "ends": [7], "axes": [1], "steps": [2]}),
    ("Slice", {}, {"starts": [-1], "ends": [-9], "axes": [1], "steps": [-1]}),
    ("Slice", {}, {"starts": [6], "ends": [0], "axes": [1], "steps": [-2]}),
    ("Softmax", {"axis": 1}, {}),
    ("Softplus", {}, {}),
    ("Softsign", {}, {}),
    ("Squeeze", {}, {"axes": [0]}),
    ("Tanh", {}, {}),
    ("Tile", {}, {"repeats": [1, 2, 1, 3]}),
    ("Transpose", {"perm": [0, 2, 3, 1]}, {}),
    ("Unsqueeze", {}, {"axes": [1, -1]}),
]


@pytest.mark.parametrize(("operator", "attributes", "constants"), OPERATIONS)
def test_torch_functions_compute_what_onnx_runtime_does(
    operator: str, attributes: dict[str, object], constants: dict[str, list[int]]
) -> None:
    node = helper.make_node(operator, ["x", *constants], ["y"], "node", **attributes)
    shape = (1, 8, 4) if operator == "Col2Im" else (1, 8, 4, 4)
    model = _model([node], constants, list(shape))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = proof.run_torch(make_network(nn.Identity(), model), [x])
    np.testing.assert_allclose(found[0], proof.run_onnx(model, [x])[0], atol=1e-5)


def test_every_operator_with_a_torch_form_has_a_rule() -> None:
    assert OPERATORS.keys() <= RULES.keys()
