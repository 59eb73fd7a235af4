"""The agent's loop against a service over a real socket."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from latency_service.agent.measuring.ipc import MeasuringFailed
from latency_service.agent.measuring.profiler import Profiler, Reference
from latency_service.agent.state import State
from latency_service.measurements.schemas import ResultBody
from latency_service.measurements.statistics import summarise
from tests.support.agents import Agent, FakeProfiler, eventually, lease_of
from tests.support.fake_agent_service import FakeAgentService
from tests.support.tiny import QUICK, tiny_space

Start = Callable[..., Agent]


@pytest.fixture
def space_id(fake_service: FakeAgentService) -> str:
    return fake_service.keep(b"a search space")


def test_leases_measures_delivers(
    fake_service: FakeAgentService, start: Start, space_id: str, state: State
) -> None:
    fake_service.offer(lease_of("t1", space_id))
    fake_service.offer(lease_of("t2", space_id))
    start()
    eventually(lambda: len(fake_service.results) == 2)
    body = ResultBody.model_validate_json(fake_service.results["t1"])
    assert [result.index for result in body.results] == [3, 5]
    assert fake_service.count("graph.onnx") == 1
    eventually(lambda: list(state.spooled()) == [])
    eventually(lambda: fake_service.heartbeats[-1]["state"] == "idle")


def test_measures_a_delivered_file(
    fake_service: FakeAgentService, start: Start, space_id: str, profiler: FakeProfiler
) -> None:
    sha256 = fake_service.keep(b"a delivered file")
    fake_service.offer(
        lease_of("t1", space_id, kind="verify", model_sha256=sha256, architectures=[])
    )
    start()
    eventually(lambda: fake_service.results)
    assert profiler.files == [b"a delivered file"]
    assert profiler.references == [Reference("space", fake_service.files[space_id])]
    assert [
        r.index for r in ResultBody.model_validate_json(fake_service.results["t1"]).results
    ] == [0]


def test_the_real_profiler_on_a_real_space(
    fake_service: FakeAgentService, start: Start, profiler_state: Path
) -> None:
    fake_service.offer(lease_of("t1", fake_service.keep(tiny_space().data)))
    start(Profiler(profiler_state))
    eventually(lambda: fake_service.results or fake_service.failures, seconds=60)
    assert fake_service.failures == {}
    body = ResultBody.model_validate_json(fake_service.results["t1"])
    assert [result.index for result in body.results] == [3, 5]
    for result in body.results:
        assert 0 < summarise(result.rounds, body.calibration, QUICK).latency_ms < 5
    assert any(beat["attempt_id"] == "t1" for beat in fake_service.heartbeats)


def test_an_outage_while_it_measures_loses_nothing(
    fake_service: FakeAgentService,
    start: Start,
    space_id: str,
    profiler: FakeProfiler,
    state: State,
) -> None:
    profiler.release.clear()
    fake_service.offer(lease_of("t1", space_id))
    start()
    eventually(profiler.begun.is_set)
    fake_service.stop()
    profiler.release.set()
    eventually(lambda: list(state.spooled()))
    assert fake_service.results == {}
    fake_service.start()
    eventually(lambda: "t1" in fake_service.results)
    eventually(lambda: list(state.spooled()) == [])


def test_a_restarted_agent_delivers_what_it_had_before_it_asks_for_more(
    fake_service: FakeAgentService,
    start: Start,
    space_id: str,
    profiler: FakeProfiler,
    state: State,
) -> None:
    profiler.release.clear()
    fake_service.offer(lease_of("t1", space_id))
    first = start()
    eventually(profiler.begun.is_set)
    fake_service.stop()
    profiler.release.set()
    eventually(lambda: list(state.spooled()))
    first.end()
    ((_, kept),) = state.spooled()
    fake_service.requests.clear()
    fake_service.start()
    start()
    eventually(lambda: fake_service.results.get("t1") == kept)
    asked = [path for _, path in fake_service.requests if "heartbeat" not in path]
    assert asked[0] == "/v1/attempts/t1/result"


@pytest.mark.parametrize("status", [409, 410])
def test_a_lease_that_is_gone_ends_the_measuring(
    fake_service: FakeAgentService, start: Start, space_id: str, profiler: FakeProfiler, status: int
) -> None:
    profiler.release.clear()
    fake_service.instead["renew"] = status
    fake_service.offer(lease_of("t1", space_id))
    start()
    eventually(lambda: profiler.reasons == [f"The service says {status}."])
    profiler.release.set()
    fake_service.instead.clear()
    fake_service.offer(lease_of("t2", space_id))
    eventually(lambda: "t2" in fake_service.results)
    assert "t1" not in fake_service.results
    assert fake_service.failures == {}


def test_a_renewal_that_fails_for_now_does_not(
    fake_service: FakeAgentService, start: Start, space_id: str, profiler: FakeProfiler
) -> None:
    profiler.release.clear()
    fake_service.instead["renew"] = 503
    fake_service.offer(lease_of("t1", space_id))
    start()
    eventually(lambda: fake_service.count("renew") >= 3)
    profiler.release.set()
    eventually(lambda: "t1" in fake_service.results)


def test_the_service_cancels_by_heartbeat(
    fake_service: FakeAgentService, start: Start, space_id: str, profiler: FakeProfiler
) -> None:
    profiler.release.clear()
    fake_service.offer(lease_of("t1", space_id))
    start()
    eventually(profiler.begun.is_set)
    fake_service.command = "cancel"
    eventually(lambda: profiler.reasons == ["cancelled by the service"])


def test_a_paused_agent_asks_for_no_more(
    fake_service: FakeAgentService, start: Start, space_id: str
) -> None:
    fake_service.command = "pause"
    start()
    eventually(lambda: len(fake_service.heartbeats) >= 2)
    fake_service.offer(lease_of("t1", space_id))
    eventually(lambda: len(fake_service.heartbeats) >= 10)
    assert fake_service.count("leases") <= 1  # one may have been under way when the pause came
    fake_service.command = "continue"
    fake_service.offer(lease_of("t2", space_id))
    eventually(lambda: fake_service.results.keys() == {"t1", "t2"})


def test_a_result_that_is_refused_is_put_aside_and_work_goes_on(
    fake_service: FakeAgentService, start: Start, space_id: str, state: State
) -> None:
    fake_service.instead["result"] = 409
    fake_service.offer(lease_of("t1", space_id))
    start()
    kept = state.folder / "refused" / "t1.json"
    eventually(kept.exists)
    fake_service.instead.clear()
    fake_service.offer(lease_of("t2", space_id))
    eventually(lambda: "t2" in fake_service.results)
    assert [r.index for r in ResultBody.model_validate_json(kept.read_bytes()).results] == [3, 5]


def test_other_bytes_than_the_hash_says_are_not_run(
    fake_service: FakeAgentService, start: Start, space_id: str, profiler: FakeProfiler
) -> None:
    fake_service.files[space_id] = b"something else"
    fake_service.offer(lease_of("t1", space_id))
    start()
    eventually(lambda: fake_service.failures)
    assert fake_service.failures["t1"]["kind"] == "internal"
    assert "hash" in fake_service.failures["t1"]["message"]
    assert profiler.files == []


def test_a_space_that_is_not_there(fake_service: FakeAgentService, start: Start) -> None:
    fake_service.instead["graph.onnx"] = 404
    fake_service.offer(lease_of("t1", hashlib.sha256(b"").hexdigest()))
    start()
    eventually(lambda: fake_service.failures)
    assert fake_service.failures["t1"]["kind"] == "internal"


def test_an_opset_that_is_newer_than_the_device(
    fake_service: FakeAgentService, start: Start, space_id: str
) -> None:
    fake_service.offer(lease_of("t1", space_id, opset=22))
    start()
    eventually(lambda: fake_service.failures)
    assert fake_service.failures["t1"]["kind"] == "version_mismatch"
    assert "pip install" in fake_service.failures["t1"]["message"]
    assert fake_service.count("graph.onnx") == 0


def test_a_typed_failure_arrives_with_the_end_of_the_log(
    fake_service: FakeAgentService, start: Start, space_id: str, profiler: FakeProfiler
) -> None:
    profiler.fails = MeasuringFailed("device_oom", "too large", "last words")
    fake_service.offer(lease_of("t1", space_id))
    start()
    eventually(lambda: fake_service.failures)
    assert fake_service.failures["t1"] == {
        "kind": "device_oom",
        "message": "too large",
        "log_tail": "last words",
    }


def test_a_stop_does_not_wait_for_a_long_poll(fake_service: FakeAgentService, start: Start) -> None:
    agent = start()
    eventually(lambda: fake_service.count("leases"))
    assert agent.end() < 2
    eventually(lambda: fake_service.heartbeats[-1]["state"] == "stopping")


def test_a_stop_ends_the_measuring_and_gives_the_work_back(
    fake_service: FakeAgentService, start: Start, space_id: str, profiler: FakeProfiler
) -> None:
    profiler.release.clear()
    fake_service.offer(lease_of("t1", space_id))
    agent = start()
    eventually(profiler.begun.is_set)
    assert agent.end() < 2
    assert profiler.reasons == ["the agent is stopping"]
    assert fake_service.failures["t1"]["kind"] == "agent_lost"


def test_a_stop_does_not_wait_for_a_service_that_is_away(
    fake_service: FakeAgentService, start: Start
) -> None:
    agent = start()
    eventually(lambda: fake_service.count("leases"))
    fake_service.stop()
    assert agent.end() < 2
