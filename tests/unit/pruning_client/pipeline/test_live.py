from __future__ import annotations

import math
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from latency_service.core.text import MAX_MESSAGE
from latency_service.core.transport import ApiError, Unreachable
from latency_service.runs.schemas import MAX_PHASE, RunFailure, RunProgress
from pruning_client.execution.progress import ProgressEvent
from pruning_client.pipeline.live import Recorder
from pruning_client.reports.schema import Verification

REFUSED = ApiError(400, "bad_request", "It is wrong.", "Mend it.")


class FakeClient:
    """Keeps what it is sent, in order; refuses while `is_away`, and takes `seconds` for each
    request.
    """

    def __init__(self) -> None:
        self.received: list[RunProgress] = []
        self.told: list[str] = []
        self.is_away = False
        self.refusals: list[ApiError] = []
        self.seconds = 0.0
        self.sent = threading.Event()

    def report_progress(self, run_id: str, news: RunProgress) -> None:
        self._answer()
        assert run_id == "run-1"
        self.received.append(news)
        self.told.append("progress")
        self.sent.set()

    def finish_run(self, run_id: str, report: dict[str, Any]) -> SimpleNamespace:
        self._answer()
        self.told.append(f"report {report['name']}")
        return SimpleNamespace(id=run_id)

    def fail_run(self, run_id: str, message: str) -> None:
        self._answer()
        self.told.append(RunFailure(message=message).message)

    @property
    def steps(self) -> list[tuple[int, int]]:
        """Index and step of each entry as it was sent."""
        return [
            (news.first + at, entry.step)
            for news in self.received
            for at, entry in enumerate(news.entries)
        ]

    def _answer(self) -> None:
        time.sleep(self.seconds)
        if self.is_away:
            raise Unreachable("http://service", OSError("refused"))
        if self.refusals:
            raise self.refusals.pop()


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def recorder(client: Any, pause_seconds: float = 60.0, **limits: float) -> Recorder:
    return Recorder(client, "run-1", pause_seconds=pause_seconds, **limits)


def event(*steps: int, done: int = 1) -> ProgressEvent:
    entries = [{"phase": "prune", "step": step, "loss": 1.0} for step in steps]
    return ProgressEvent(phase="prune", done=done, total=9, entries=entries)


def verification(latency_ms: float) -> Verification:
    return Verification(
        stage="delivered",
        widths=[8],
        predicted_ms=1.0,
        latency_ms=latency_ms,
        lower_ms=latency_ms,
        upper_ms=latency_ms,
        verdict="ok",
        measurement_id="m",
        model_sha256="0" * 64,
    )


def test_events_of_a_pause_are_sent_together(client: FakeClient) -> None:
    live = recorder(client)
    live.start()
    live.note(event(1, 2))
    live.note(event(3, done=3))
    live.drain()
    assert client.steps == [(0, 1), (1, 2), (2, 3)]
    assert [(news.done, news.total) for news in client.received] == [(3, 9)]


def test_nothing_is_sent_where_nothing_happens(client: FakeClient) -> None:
    live = recorder(client, pause_seconds=0.01)
    live.start()
    live.note(event(1))
    assert client.sent.wait(20)
    live.drain()
    assert len(client.received) == 1


def test_what_a_service_did_not_take_is_sent_later(client: FakeClient) -> None:
    client.is_away = True
    live = recorder(client, pause_seconds=0.01)
    live.start()
    live.note(event(1))
    threading.Event().wait(0.1)
    client.is_away = False
    live.note(event(2))
    assert client.sent.wait(20)
    live.drain()
    assert client.steps == [(0, 1), (1, 2)]


def test_long_histories_are_sent_in_parts(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pruning_client.pipeline.live.MAX_ENTRIES", 2)
    live = recorder(client, pause_seconds=0.01)
    live.start()
    live.note(event(1, 2, 3, 4, 5))
    while len(client.steps) < 5:
        assert client.sent.wait(20)
    live.drain()
    assert client.steps == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]


def test_verifications_are_sent_whole_when_there_are_new_ones(client: FakeClient) -> None:
    live = recorder(client)
    live.start()
    live.note_verifications([verification(1.0)])
    live.note_verifications([verification(1.0), verification(2.0)])
    live.drain()
    (news,) = client.received
    assert news.verifications is not None
    assert [one.latency_ms for one in news.verifications] == [1.0, 2.0]


@pytest.mark.parametrize("ending", ["finish", "fail"])
def test_the_rest_is_sent_before_the_end(
    client: FakeClient, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pruning_client.pipeline.live.MAX_ENTRIES", 2)
    client.seconds = 0.05
    live = recorder(client)
    live.start()
    live.note(event(1, 2, 3, 4, 5))
    if ending == "finish":
        assert live.finish({"name": "net"}) == "run-1"
    else:
        live.fail(ValueError("no"))
    assert [step for _, step in client.steps] == [1, 2, 3, 4, 5]
    last = {"finish": "report net", "fail": "ValueError: no"}[ending]
    assert client.told == ["progress"] * 3 + [last]


def test_the_rest_is_sent_to_a_service_that_comes_back_in_time(client: FakeClient) -> None:
    client.is_away = True
    live = recorder(client, pause_seconds=0.01)
    live.start()
    live.note(event(1))
    back = threading.Timer(0.2, setattr, (client, "is_away", False))
    back.start()
    live.finish({"name": "net"})
    assert client.told == ["progress", "report net"]


@pytest.mark.parametrize(("is_away", "seconds"), [(True, 0.0), (False, 60.0)], ids=["dead", "slow"])
def test_a_service_that_does_not_answer_holds_no_job_up(
    client: FakeClient, is_away: bool, seconds: float
) -> None:
    client.is_away, client.seconds = is_away, seconds
    live = recorder(client, pause_seconds=0.01, drain_seconds=0.3, failure_seconds=0.3)
    live.start()
    live.note(event(1))
    began = time.monotonic()
    live.fail(ValueError("no"))
    assert time.monotonic() - began < 10
    assert client.told == []


def test_what_is_refused_holds_nothing_up(client: FakeClient) -> None:
    live = recorder(client, pause_seconds=0.01)
    client.refusals = [REFUSED]
    live.note(event(1, 2))
    live.start()
    while client.refusals:
        time.sleep(0.01)
    live.note(event(3))
    live.finish({"name": "net"})
    assert client.steps == [(0, 3)]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_metric_without_a_number_is_sent_as_null(client: FakeClient, bad: float) -> None:
    live = recorder(client)
    live.start()
    entry = {"phase": "prune", "step": 1, "loss": bad, "accuracy": bad, "own": [bad, 1.0]}
    live.note(ProgressEvent(phase="prune", done=1, total=9, entries=[entry]))
    live.drain()
    (news,) = client.received
    (sent,) = news.model_dump()["entries"]
    assert (sent["loss"], sent["accuracy"], sent["own"]) == (None, None, [None, 1.0])


def test_an_entry_that_the_service_would_refuse_is_left_out(client: FakeClient) -> None:
    live = recorder(client)
    live.start()
    entries = [{"phase": "p" * 999, "step": 1}, {"phase": "prune", "step": 2}]
    live.note(ProgressEvent(phase="p" * 999, done=1, total=9, entries=entries))
    live.drain()
    assert client.steps == [(0, 2)]
    assert client.received[0].phase == "p" * MAX_PHASE


def test_a_long_reason_is_cut_and_plain(client: FakeClient) -> None:
    live = recorder(client)
    live.start()
    live.fail(ValueError("\x00\udcff" + "y" * 2 * MAX_MESSAGE))
    assert client.told[-1].startswith("ValueError: ??yyy")
    assert len(client.told[-1]) == MAX_MESSAGE
