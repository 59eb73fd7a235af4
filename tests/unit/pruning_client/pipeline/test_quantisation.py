"""int8 files of real small networks on real digits: accuracy kept, sensitive layers in float."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
import torch

from latency_service.core.quantisation import precision_of
from latency_service.core.runtimes import CalibrationName
from pruning_client.data.batches import Batches
from pruning_client.data.sources import as_batches
from pruning_client.errors import ModelError, Refused, UsageError
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import ProgressEvent
from pruning_client.graph.export import trace
from pruning_client.graph.onnx_module import OnnxModule
from pruning_client.pipeline.quantisation import (
    FileQuantiser,
    Quantisation,
    calibration_samples,
)
from pruning_client.training.config import Training
from pruning_client.training.metrics import accuracy
from pruning_client.training.trainer import finetune
from tests.support.tiny_networks import TinyNet, digits, tiny_net

EXAMPLE = torch.rand(2, 1, 8, 8)


@pytest.fixture(scope="module")
def data() -> tuple[Batches, Batches]:
    return as_batches(digits(), batch_size=64).split(0.3, 0)


@pytest.fixture(scope="module")
def trained(data: tuple[Batches, Batches]) -> TinyNet:
    model = tiny_net()
    finetune(model, data[0], Training(epochs=4, lr=0.1))
    return model.eval()


@pytest.fixture
def uneven(trained: TinyNet) -> TinyNet:
    """The same function, with one channel inside the block thousands of times as large as the
    others: int8 activations leave nothing of those.
    """
    model = tiny_net().eval()
    model.load_state_dict(trained.state_dict())
    with torch.no_grad():
        model.block.bn1.weight[0] *= 4000
        model.block.bn1.bias[0] *= 4000
        model.block.conv2.weight[:, 0] /= 4000
    return model


def quantiser(
    data: tuple[Batches, Batches], events: list[ProgressEvent] | None = None, **config: object
) -> FileQuantiser:
    wanted = Quantisation(**config)  # type: ignore[arg-type]
    return FileQuantiser(
        wanted,
        calibration_samples(data[0], wanted.images, 0),
        ["CPUExecutionProvider"],
        journal=Journal(),
        progress=(events if events is not None else []).append,
    )


def exported(model: TinyNet) -> bytes:
    return trace(model, EXAMPLE).SerializeToString()


def through_onnx_runtime(model: TinyNet, held_out: Batches) -> Callable[[bytes], float]:
    return lambda made: accuracy(OnnxModule(made, model, (EXAMPLE,)), held_out)


@pytest.mark.parametrize("calibration", ["percentile", "entropy", "minmax"])
def test_the_accuracy_of_a_trained_network_is_kept(
    data: tuple[Batches, Batches], trained: TinyNet, calibration: CalibrationName
) -> None:
    measure = through_onnx_runtime(trained, data[1])
    made = quantiser(data, calibration=calibration).file(exported(trained), measure)
    assert precision_of(onnx.load_model_from_string(made.data)) == "int8"
    assert made.float_accuracy == pytest.approx(accuracy(trained, data[1]), abs=0.2)
    assert made.accuracy == measure(made.data) >= made.float_accuracy - 1
    assert made.float_accuracy > 85
    assert made.float_layers == ()


def test_sensitive_layers_are_left_in_float(data: tuple[Batches, Batches], uneven: TinyNet) -> None:
    measure = through_onnx_runtime(uneven, data[1])
    everything = quantiser(data, calibration="minmax", max_accuracy_drop=100.0)
    lost = everything.file(exported(uneven), measure)
    assert lost.accuracy < lost.float_accuracy - 5
    events: list[ProgressEvent] = []
    kept = quantiser(data, events, calibration="minmax").file(exported(uneven), measure)
    assert set(kept.float_layers) == {"block.conv1", "block.conv2"}
    assert kept.accuracy == measure(kept.data) >= kept.float_accuracy - 1
    assert [event.done for event in events] == [0, 1, 2]


def test_layers_found_sensitive_stay_in_float_in_the_files_made_later(
    data: tuple[Batches, Batches], uneven: TinyNet, trained: TinyNet
) -> None:
    """Their latencies are compared."""
    one = quantiser(data, calibration="minmax")
    first = one.file(exported(uneven), through_onnx_runtime(uneven, data[1]))
    second = one.file(exported(trained), through_onnx_runtime(trained, data[1]))
    assert second.float_layers == first.float_layers != ()
    structure = one.structure(trace(trained, EXAMPLE))
    names = {tensor.name for tensor in onnx.load_model_from_string(structure).graph.initializer}
    assert any("block.conv1.weight" in name and "quantized" not in name for name in names)
    assert any(name == "fc.weight_quantized" for name in names)
    again = one.again(first, Journal())
    assert again.file(exported(trained), lambda _: 90.0).float_layers == first.float_layers


def test_no_int_file_keeps_the_accuracy(data: tuple[Batches, Batches], trained: TinyNet) -> None:
    float_file = exported(trained)
    with pytest.raises(Refused, match="No int8 file") as caught:
        quantiser(data).file(float_file, lambda made: 90.0 if made == float_file else 10.0)
    assert caught.value.exit_code == 8


def test_the_images_are_drawn_with_the_seed(data: tuple[Batches, Batches]) -> None:
    one, same, other = (calibration_samples(data[0], 100, seed)[0] for seed in (1, 1, 2))
    assert one.shape == (100, 1, 8, 8)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len(calibration_samples(data[0], 10_000, 0)[0]) <= 1797


def test_a_network_that_cannot_be_quantised(data: tuple[Batches, Batches]) -> None:
    graph = trace(tiny_net(), EXAMPLE)
    graph.graph.node[0].op_type = "Telepathy"
    with pytest.raises(ModelError, match="cannot quantise this network") as caught:
        quantiser(data).structure(graph)
    assert "fp32" in caught.value.cure


@pytest.mark.parametrize("wrong", [{"images": 0}, {"max_accuracy_drop": -0.1}])
def test_settings_that_are_invalid(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="is invalid"):
        Quantisation(**wrong)  # type: ignore[arg-type]
