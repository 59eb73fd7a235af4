"""Sessions run what was asked for, where it was asked for, or say why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import ModelProto, TensorProto, helper

from latency_service.agent.measuring.canaries import CANARIES, build
from latency_service.agent.measuring.ipc import MeasuringFailed
from latency_service.agent.measuring.sessions import classify, open_network, random_feeds
from latency_service.devices.schemas import RuntimeConfig

Shape = list[int | str | None]


def relu(shape: Shape, kind: int = TensorProto.FLOAT) -> ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def refusal(model: ModelProto, runtime: RuntimeConfig | None = None) -> MeasuringFailed:
    with pytest.raises(MeasuringFailed) as caught:
        open_network(model, runtime or RuntimeConfig())
    return caught.value


@pytest.mark.parametrize("first", ["batch", "N", None, 4], ids=str)
def test_the_batch_is_the_target_s(first: int | str | None) -> None:
    model = relu([first, 3, 8, 8])
    open_network(model, RuntimeConfig(batch=4)).run()
    assert random_feeds(model, 0)["x"].shape == (4, 3, 8, 8)


def test_a_fixed_batch_that_is_another() -> None:
    found = refusal(relu([1, 3, 8, 8]), RuntimeConfig(batch=4))
    assert found.kind == "model_invalid"
    assert "fixed batch of 1" in found.message


def test_a_state_after_the_images_has_its_layers_first() -> None:
    """A recurrent network's: two layers, whatever the batch."""
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"]), helper.make_node("Relu", ["state"], ["z"])],
        "recurrent",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 16]),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, "N", 8]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [16, 8]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, None),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert "fixed sizes" in refusal(model).message
    model.graph.input[1].type.tensor_type.shape.dim[1].dim_value = 1
    open_network(model, RuntimeConfig()).run()


def test_images_of_no_certain_size() -> None:
    found = refusal(relu(["batch", 3, "height", 8]))
    assert found.kind == "model_invalid"
    assert "'height'" in found.message
    assert "fixed sizes" in found.message


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT32])
def test_inputs_of_other_types(kind: int) -> None:
    open_network(relu([1, 3], kind), RuntimeConfig()).run()


def test_inputs_that_cannot_be_filled() -> None:
    model = relu([1, 3], TensorProto.STRING)
    model.graph.node[0].op_type = "Identity"
    assert "STRING" in refusal(model).message


def test_weights_in_another_file_are_not_looked_for() -> None:
    model = build(CANARIES[0])
    weight = model.graph.initializer[0]
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")
    found = refusal(model)
    assert found.kind == "model_invalid"
    assert "one file" in found.message


def test_a_provider_that_is_missing_names_those_that_are_not() -> None:
    found = refusal(relu([1, 3]), RuntimeConfig(provider="CUDAExecutionProvider"))
    assert found.kind == "unsupported_op"
    assert "CPUExecutionProvider" in found.message


def test_an_operator_that_nobody_knows() -> None:
    model = relu([1, 3])
    model.graph.node[0].op_type = "Telepathy"
    assert refusal(model).kind == "unsupported_op"


def test_an_int8_target_quantises(tmp_path: Path) -> None:
    open_network(build(CANARIES[0]), RuntimeConfig(precision="int8"), folder=tmp_path).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "device_oom"),
        (RuntimeError("std::bad_alloc"), "device_oom"),
        (RuntimeError("CUDA error: out of memory"), "device_oom"),
        (RuntimeError("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : no kernel"), "unsupported_op"),
        (
            RuntimeError("Unsupported model IR version: 99, max supported IR version: 12"),
            "version_mismatch",
        ),
        (ValueError("widths do not fit"), "model_invalid"),
        (RuntimeError("anything else"), "runtime_crash"),
    ],
    ids=str,
)
def test_what_an_exception_stands_for(error: Exception, kind: str) -> None:
    assert classify(error).kind == kind
