"""Delivered models that the service could not see through, on a device: each ends in a typed
failure within its limits, and no file of the device is read.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from onnx import ModelProto, TensorProto

from latency_service.agent.measuring.ipc import MeasuringFailed, MeasuringTask
from latency_service.agent.measuring.sandbox import Limits, run
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol
from tests.support.hostile_models.catalogue import MODELS, PASSING_MODELS, SPACES
from tests.support.hostile_models.spoiling import valid_model, weight

QUICK = Protocol(
    half_width=0.9,
    min_rounds=3,
    max_rounds=4,
    round_ms=0.5,
    warmup_min_runs=1,
    warmup_min_seconds=0.0,
    budget_seconds=1.0,
)
LIMITS = Limits(wall_seconds=60.0, cpu_seconds=6, memory_bytes=1 << 30, file_bytes=16 << 20)
#: What each of them does to a device.
ENDINGS = {
    "endless loop": {"runtime_timeout"},
    "100 GB": {"device_oom"},
    "range of 2^36": {"device_oom", "runtime_crash"},
    "dynamic image": {"model_invalid"},
    "image of texts": {"model_invalid"},
    "image of a terabyte": {"device_oom"},
    "divided by zero": {"runtime_crash", "model_invalid"},
    "24 concatenated shapes": {"device_oom"},
    "outer product": {"device_oom"},
}


def ending(source: str, graph: bytes, limits: Limits = LIMITS) -> str:
    """Kind of the failure, or `measured`."""
    task = MeasuringTask(source=source, runtime=RuntimeConfig(), protocol=QUICK, widths=[[6, 8]])
    try:
        run(task, graph, limits=limits)
    except MeasuringFailed as error:
        return error.kind
    return "measured"


@pytest.mark.parametrize("kind", PASSING_MODELS)
def test_what_passes_ends_in_a_typed_failure(kind: str) -> None:
    began = time.monotonic()
    assert ending("model", PASSING_MODELS[kind]()) in ENDINGS[kind]
    assert time.monotonic() - began < LIMITS.wall_seconds


@pytest.mark.parametrize(
    "kind",
    [
        "external constant in an attribute",
        "external weight in a subgraph",
        "nested functions",
        "foreign operator",
        "million empty nodes",
    ],
)
def test_an_agent_refuses_by_itself_what_the_service_refuses(kind: str) -> None:
    assert ending("model", MODELS[kind]()) in {"model_invalid", "device_oom"}


@pytest.mark.parametrize("kind", ["24 concatenated shapes", "weight in a file", "cycle"])
def test_an_agent_refuses_spaces_by_itself(kind: str) -> None:
    assert ending("space", SPACES[kind]()) == "model_invalid"


def test_weights_are_not_read_from_the_device(tmp_path: Path) -> None:
    """Not even where the file is there and has the right size."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(6 * 27 * 4))
    model = ModelProto.FromString(valid_model())
    tensor = weight(model, "a")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(secret))
    assert ending("model", model.SerializeToString()) == "model_invalid"


def test_a_log_does_not_fill_the_disk() -> None:
    task = MeasuringTask(source="model", runtime=RuntimeConfig(), protocol=QUICK)
    limits = Limits(wall_seconds=60.0, cpu_seconds=60, memory_bytes=1 << 30, file_bytes=1 << 20)
    code = (
        "import sys; from pathlib import Path\n"
        "from latency_service.agent.measuring import pinning\n"
        "from latency_service.agent.measuring.ipc import TASK_FILE, MeasuringTask\n"
        "task = Path(sys.argv[1], TASK_FILE).read_bytes()\n"
        "pinning.apply(MeasuringTask.model_validate_json(task), int(sys.argv[2]))\n"
        "while True: print('x' * 10_000)"
    )
    with pytest.raises(MeasuringFailed) as caught:
        run(task, b"", limits=limits, command=[sys.executable, "-c", code])
    assert caught.value.kind == "device_unhealthy"
    assert "1 MB" in caught.value.message
