"""Static quantisation: what becomes int8, what stays float, and how a file's precision is read."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper

from latency_service.agent.measuring.canaries import CANARIES, build
from latency_service.agent.measuring.sessions import random_feeds
from latency_service.core.arrays import Array
from latency_service.core.quantisation import Feeds, Quantiser, precision_of
from latency_service.core.runtimes import CalibrationName


@pytest.fixture(scope="module")
def network() -> ModelProto:
    return build(CANARIES[0])


@pytest.fixture(scope="module")
def batches(network: ModelProto) -> list[Feeds]:
    return [random_feeds(network, seed) for seed in range(4)]


def answer(model: ModelProto, feeds: Feeds) -> Array:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, dict(feeds))[0])


@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile"])
def test_an_int8_network_answers_much_as_the_float_one(
    network: ModelProto, batches: list[Feeds], calibration: CalibrationName
) -> None:
    made = Quantiser(network, batches, calibration=calibration).quantised()
    onnx.checker.check_model(made)
    assert precision_of(made) == "int8"
    assert [entry.domain for entry in made.opset_import] == [""]
    weights = {tensor.data_type for tensor in made.graph.initializer}
    assert {TensorProto.INT8, TensorProto.UINT8} <= weights
    expected, found = answer(network, batches[0]), answer(made, batches[0])
    assert np.linalg.norm(found - expected) < 0.2 * np.linalg.norm(expected)


def test_weights_are_quantised_per_channel(network: ModelProto, batches: list[Feeds]) -> None:
    made = Quantiser(network, batches).quantised()
    weights = {t.name: t for t in made.graph.initializer if t.data_type == TensorProto.INT8}
    scales = {t.name: list(t.dims) for t in made.graph.initializer}
    filters = [name for name, tensor in weights.items() if len(tensor.dims) == 4]
    assert filters
    for name in filters:
        assert scales[name.replace("_quantized", "_scale")] == [weights[name].dims[0]]


def test_layers_are_left_in_float(network: ModelProto, batches: list[Feeds]) -> None:
    quantiser = Quantiser(network, batches)
    first, *others = quantiser.layers
    everything, part, nothing = (
        Counter(node.op_type for node in quantiser.quantised(names).graph.node)
        for names in ((), (first,), (first, *others))
    )
    assert everything["DequantizeLinear"] > part["DequantizeLinear"] > 0
    assert nothing["DequantizeLinear"] == nothing["QuantizeLinear"] == 0
    assert precision_of(quantiser.quantised((first, *others))) == "fp32"
    with pytest.raises(KeyError):
        quantiser.quantised(("nowhere",))


def test_every_operator_belongs_to_one_layer(network: ModelProto, batches: list[Feeds]) -> None:
    quantiser = Quantiser(network, batches)
    nodes = [node for layer in quantiser.layers.values() for node in layer]
    assert len(nodes) == len(set(nodes))
    assert {node.name for node in quantiser.quantised(quantiser.layers).graph.node} == set(nodes)


def test_the_same_calibration_gives_the_same_file(
    network: ModelProto, batches: list[Feeds]
) -> None:
    files = {
        Quantiser(network, batches).quantised().SerializeToString(deterministic=True)
        for _ in range(2)
    }
    assert len(files) == 1


def test_activations_are_signed_and_symmetric_for_tensorrt(
    network: ModelProto, batches: list[Feeds]
) -> None:
    providers = ["CPUExecutionProvider", "TensorrtExecutionProvider"]
    made = Quantiser(network, batches, providers=providers).quantised()
    assert TensorProto.UINT8 not in {tensor.data_type for tensor in made.graph.initializer}


def test_nothing_is_printed_logged_or_left_behind(
    network: ModelProto,
    batches: list[Feeds],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        Quantiser(network, batches, calibration="entropy", folder=tmp_path).quantised()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""
    assert caplog.records == []


@pytest.mark.parametrize(
    ("operator", "precision"),
    [
        ("QuantizeLinear", "int8"),
        ("QLinearConv", "int8"),
        ("ConvInteger", "int8"),
        ("DynamicQuantizeLinear", "int8"),
        ("Conv", "fp32"),
    ],
)
def test_the_precision_of_a_file_is_read_from_its_operators(operator: str, precision: str) -> None:
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "one", [], [])
    assert precision_of(helper.make_model(graph)) == precision
