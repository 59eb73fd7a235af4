"""Sessions of several threads share them, in the measuring process alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from latency_service.agent.measuring import threads
from latency_service.agent.measuring.canaries import CANARIES, build
from latency_service.agent.measuring.sessions import open_network
from latency_service.devices.schemas import RuntimeConfig

_LINUX = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
_PROCESS = """
import json, os
from latency_service.agent.measuring import pinning, threads
from latency_service.agent.measuring.canaries import CANARIES, build
from latency_service.agent.measuring.sessions import open_network
from latency_service.devices.schemas import RuntimeConfig

def tasks():
    return set(map(int, os.listdir("/proc/self/task")))

cores = pinning.allowed_cores()
before = tasks()
runtime = RuntimeConfig(intra_threads=COUNT)
threads.share(runtime, cores)
made = tasks() - before
opened = [open_network(build(canary), runtime) for canary in CANARIES[:3]]
print(json.dumps({
    "cores": cores,
    "shared": threads.shared(),
    "made": [sorted(os.sched_getaffinity(task)) for task in sorted(made)],
    "main": sorted(os.sched_getaffinity(0)),
    "more": len(tasks() - before - made),
}))
"""


def _in_a_process(count: int) -> dict[str, Any]:
    code = _PROCESS.replace("COUNT", str(count))
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(printed.stdout)
    return found


@_LINUX
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_all_sessions_have_the_same_threads_each_on_its_core() -> None:
    found = _in_a_process(2)
    first, second, *_ = found["cores"]
    assert found["shared"] == 2
    assert found["made"] == [[second]]
    assert found["main"] == [first]
    assert found["more"] == 0


@_LINUX
def test_more_threads_than_cores_are_not_kept_on_cores() -> None:
    found = _in_a_process(len(os.sched_getaffinity(0)) + 1)
    assert all(cores == found["cores"] for cores in found["made"])
    assert found["main"] == found["cores"]


@_LINUX
def test_one_thread_needs_no_others() -> None:
    found = _in_a_process(1)
    assert (found["shared"], found["made"], found["more"]) == (None, [], 0)


def test_a_process_that_has_not_asked_for_it_opens_sessions_of_their_own() -> None:
    assert threads.shared() is None
    open_network(build(CANARIES[0]), RuntimeConfig(intra_threads=2)).run()


def test_an_older_runtime_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IS_POSSIBLE", False)
    threads.share(RuntimeConfig(intra_threads=2), [0, 1])
    assert threads.shared() is None


def test_other_providers_have_threads_of_their_own() -> None:
    before = os.sched_getaffinity(0)
    runtime = RuntimeConfig(intra_threads=2, provider="OpenVINOExecutionProvider")
    threads.share(runtime, sorted(before))
    assert threads.shared() is None
    assert os.sched_getaffinity(0) == before
