"""Every way in which a measuring process can end, with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from latency_service.agent.measuring.ipc import ChildResult, MeasuringFailed, MeasuringTask
from latency_service.agent.measuring.sandbox import Cancelled, Limits, run
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol
from tests.support.small_spaces import space

QUICK = Protocol(
    half_width=0.9,
    min_rounds=3,
    max_rounds=4,
    round_ms=0.5,
    warmup_min_runs=1,
    warmup_min_seconds=0.0,
    budget_seconds=1.0,
)
MODEL = MeasuringTask(source="model", runtime=RuntimeConfig(), protocol=QUICK)
SMALL = Limits(wall_seconds=15.0, cpu_seconds=15, memory_bytes=1 << 30)
posix = pytest.mark.skipif(os.name != "posix", reason="limits and signals of POSIX")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def failure(
    task: MeasuringTask = MODEL,
    graph: bytes | None = b"",
    *,
    code: str | None = None,
    limits: Limits = SMALL,
) -> MeasuringFailed:
    with pytest.raises(MeasuringFailed) as caught:
        run(task, graph, limits=limits, command=python(code) if code else None)
    return caught.value


def endless() -> ModelProto:
    """A loop of 2^62 turns."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["value", "value"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, [1, 1]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, 1]),
        ],
    )
    constants = [
        numpy_helper.from_array(np.array(2**62), "turns"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    loop = helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body)
    return model(loop, constants, [1, 1])


def hundred_gigabytes() -> ModelProto:
    """Its output has 100 GB."""
    shape = numpy_helper.from_array(np.array([25_000, 1_000_000]), "shape")
    return model(helper.make_node("Expand", ["x", "shape"], ["y"]), [shape], [25_000, 1_000_000])


def model(node: object, constants: list[TensorProto], output: list[int]) -> ModelProto:
    graph = helper.make_graph(
        [node],
        "hostile",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_measures_architectures_in_their_order() -> None:
    task = MeasuringTask(
        source="space", runtime=RuntimeConfig(), protocol=QUICK, widths=[[6, 8], [2, 1]]
    )
    answer = run(task, space().data)
    assert isinstance(answer, ChildResult)
    assert [result.index for result in answer.results] == [0, 1]
    assert all(3 <= len(result.rounds) <= 4 for result in answer.results)
    assert 0 < answer.timed_seconds < answer.wall_seconds


@posix
def test_a_network_that_hangs() -> None:
    found = failure(
        graph=endless().SerializeToString(),
        limits=Limits(wall_seconds=9, cpu_seconds=2, memory_bytes=1 << 30),
    )
    assert found.kind == "runtime_timeout"
    assert "budget_seconds" in found.message


def test_a_process_that_sleeps_for_ever() -> None:
    began = time.monotonic()
    found = failure(
        code="import time; time.sleep(60)",
        limits=Limits(wall_seconds=0.5, cpu_seconds=9, memory_bytes=1 << 30),
    )
    assert found.kind == "runtime_timeout"
    assert time.monotonic() - began < 5


def test_a_process_that_does_not_get_on() -> None:
    """It is killed by its silence long before its time is over; one that gets on is not."""
    limits = Limits(wall_seconds=60, cpu_seconds=9, memory_bytes=1 << 30, silent_seconds=1.0)
    began = time.monotonic()
    assert failure(code="import time; time.sleep(60)", limits=limits).kind == "runtime_timeout"
    assert time.monotonic() - began < 8
    lively = (
        "import time; from pathlib import Path\n"
        "for _ in range(12): Path('alive').touch(); time.sleep(0.2)"
    )
    assert failure(code=lively, limits=limits).kind == "internal"  # it ended, without an answer


@posix
def test_a_network_that_asks_for_a_hundred_gigabytes() -> None:
    found = failure(graph=hundred_gigabytes().SerializeToString())
    assert found.kind == "device_oom"
    assert "smaller" in found.message


def test_a_process_that_runs_out_of_memory() -> None:
    found = failure(code="raise MemoryError")
    assert (found.kind, "1.1 GB" in found.message) == ("device_oom", True)


@posix
def test_a_crash_by_signal() -> None:
    found = failure(
        code=(
            "import os, signal; print('last words', flush=True); os.kill(os.getpid(), "
            "signal.SIGSEGV)"
        )
    )
    assert found.kind == "runtime_crash"
    assert f"signal {signal.SIGSEGV.value}" in found.message
    assert "last words" in found.log_tail


@posix
def test_killed_from_outside() -> None:
    def kill() -> None:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):  # it may be dead already
                if any("time.sleep(61)" in word for word in child.cmdline()):
                    child.kill()

    with pytest.raises(MeasuringFailed) as caught:
        run(MODEL, b"", limits=SMALL, command=python("import time; time.sleep(61)"), cancelled=kill)
    assert caught.value.kind == "runtime_crash"
    assert "signal 9" in caught.value.message


@pytest.mark.parametrize("code", ["pass", "open('answer.json', 'w').write('{}')"])
def test_no_valid_answer(code: str) -> None:
    assert failure(code=code).kind == "internal"


@pytest.mark.parametrize("graph", [b"no model at all", b""], ids=["noise", "empty"])
def test_an_invalid_model(graph: bytes) -> None:
    assert failure(graph=graph).kind == "model_invalid"


def test_widths_that_the_space_does_not_have() -> None:
    found = failure(MODEL.model_copy(update={"source": "space", "widths": [[6, 99]]}), space().data)
    assert found.kind == "model_invalid"
    assert "99" in found.message


def test_a_provider_that_is_not_here() -> None:
    task = MODEL.model_copy(update={"runtime": RuntimeConfig(provider="TensorrtExecutionProvider")})
    found = failure(task, hundred_gigabytes().SerializeToString())
    assert found.kind == "unsupported_op"
    assert "CPUExecutionProvider" in found.message


def test_an_opset_from_the_future() -> None:
    graph = hundred_gigabytes()
    graph.opset_import[0].version = 99
    assert failure(graph=graph.SerializeToString()).kind == "version_mismatch"


@posix
def test_nothing_that_it_started_survives(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time; from pathlib import Path\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(62)'])\n"
        f"Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid)); time.sleep(62)"
    )

    def started() -> str | None:
        return "enough" if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() else None

    with pytest.raises(Cancelled, match="enough"):
        run(MODEL, b"", limits=SMALL, command=python(code), cancelled=started)
    pid = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 5
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_sees_none_of_the_service_s_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENCY_SERVICE_TOKEN", "hush")
    code = "import os, sys; sys.exit(any('LATENCY_SERVICE' in key for key in os.environ))"
    assert failure(code=code).kind == "internal"  # status 0, and no answer


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal")
def test_it_dies_with_the_agent(tmp_path: Path) -> None:
    (tmp_path / "endless.onnx").write_bytes(endless().SerializeToString())
    code = (
        "import sys; from pathlib import Path\n"
        "from latency_service.agent.measuring.sandbox import Limits, run\n"
        "from latency_service.agent.measuring.ipc import MeasuringTask\n"
        "task = MeasuringTask.model_validate_json(sys.argv[1])\n"
        "run(task, Path(sys.argv[2]).read_bytes(), limits=Limits(wall_seconds=60, "
        "cpu_seconds=60, memory_bytes=1<<30))"
    )
    agent = psutil.Popen([*python(code), MODEL.model_dump_json(), str(tmp_path / "endless.onnx")])
    try:
        child = None
        end = time.monotonic() + 20
        while child is None or child.cpu_times().user < 1.0:  # past its start, inside the network
            assert time.monotonic() < end
            time.sleep(0.05)
            child = next(iter(agent.children()), None)
    finally:
        agent.kill()
        agent.wait()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_budget_that_is_spent_ends_it_after_three_rounds() -> None:
    spent = QUICK.model_copy(update={"budget_seconds": 0.001, "min_rounds": 9, "max_rounds": 99})
    task = MeasuringTask(source="space", runtime=RuntimeConfig(), protocol=spent, widths=[[6, 8]])
    (result,) = run(task, space().data).results
    assert (result.stopped, len(result.rounds)) == ("budget", 3)
