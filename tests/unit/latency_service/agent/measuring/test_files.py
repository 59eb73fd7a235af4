"""Files as people have them: dynamic sizes, weights in another file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from latency_service.agent.measuring.files import fix_shapes, read_whole
from latency_service.agent.measuring.ipc import MeasuringFailed
from latency_service.agent.measuring.profiler import measure_file
from latency_service.agent.measuring.sessions import open_network
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol

QUICK = Protocol(half_width=0.5, min_rounds=5, max_rounds=9, warmup_min_seconds=0.01)


def dynamic(*shape: int | str) -> ModelProto:
    """One convolution over an image of any size."""
    weight = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)],
        "dynamic",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """A file whose weights lie beside it."""
    path = tmp_path / "split.onnx"
    onnx.save_model(
        dynamic("n", 3, 8, 8),
        path,
        save_as_external_data=True,
        location="split.data",
        size_threshold=0,
    )
    return path


def test_dynamic_sizes_are_fixed(tmp_path: Path) -> None:
    path = tmp_path / "dynamic.onnx"
    onnx.save_model(dynamic("n", 3, "height", "width"), path)
    whole = onnx.load_model_from_string(read_whole(path, {"x": (1, 3, 16, 24)}))
    open_network(whole, RuntimeConfig()).run()
    sizes = [dim.dim_value for dim in whole.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == [1, 3, 16, 24]


def test_without_sizes_the_message_names_the_option() -> None:
    with pytest.raises(MeasuringFailed, match=r"--shape x=SIZES"):
        open_network(dynamic("n", 3, "height", "width"), RuntimeConfig())


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"z": (1, 3, 8, 8)}, r"no input 'z'; the inputs are x \[n, 3, h, w\]"),
        ({"x": (1, 3, 8)}, r"1x3x8 does not fit input 'x' of shape \[n, 3, h, w\]"),
        ({"x": (1, 4, 8, 8)}, "1x4x8x8 does not fit"),
    ],
    ids=["no such input", "too few", "another number of channels"],
)
def test_a_shape_that_does_not_fit(shapes: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(MeasuringFailed, match=words) as caught:
        fix_shapes(dynamic("n", 3, "h", "w"), shapes)
    assert caught.value.kind == "model_invalid"


def test_a_reference_takes_the_shapes_that_it_has_inputs_for(tmp_path: Path) -> None:
    path = tmp_path / "dynamic.onnx"
    onnx.save_model(dynamic("n", 3, "height", "width"), path)
    shapes = {"x": (1, 3, 16, 24), "tokens": (1, 9)}
    whole = onnx.load_model_from_string(read_whole(path, shapes, skip_others=True))
    open_network(whole, RuntimeConfig()).run()


def test_weights_beside_the_file_are_read_in(split: Path) -> None:
    assert len(split.read_bytes()) < 8 * 27 * 4
    whole = onnx.load_model_from_string(read_whole(split, {}))
    assert numpy_helper.to_array(whole.graph.initializer[0]).sum() == 8 * 27
    open_network(whole, RuntimeConfig()).run()


def test_weights_that_are_not_there(split: Path) -> None:
    (split.parent / "split.data").unlink()
    with pytest.raises(MeasuringFailed, match="Put it where it was") as caught:
        read_whole(split, {})
    assert caught.value.kind == "model_invalid"


def test_uploads_must_be_whole(split: Path) -> None:
    with pytest.raises(MeasuringFailed, match="Save the model as one file"):
        open_network(onnx.load_model(split, load_external_data=False), RuntimeConfig())


@pytest.mark.parametrize("data", [b"no model", b""])
def test_what_is_no_model_is_left_to_the_measuring_process(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "noise.onnx"
    path.write_bytes(data)
    assert read_whole(path, {}) == data


def test_a_split_file_beside_a_dynamic_one(
    split: Path, tmp_path: Path, profiler_state: Path
) -> None:
    """A real process: the smaller image takes a share of the larger one's time."""
    larger = tmp_path / "larger.onnx"
    onnx.save_model(dynamic("n", 3, "h", "w"), larger)
    alone = measure_file(split, RuntimeConfig(), QUICK, state_dir=profiler_state)
    assert alone.share is None
    found = measure_file(
        larger,
        RuntimeConfig(),
        QUICK,
        reference=split,
        shapes={"x": (1, 3, 8, 8)},
        state_dir=profiler_state,
    )
    assert found.share is not None
    assert found.share.lower < found.share.share < found.share.upper
    assert found.share.share == pytest.approx(1.0, rel=0.25)
