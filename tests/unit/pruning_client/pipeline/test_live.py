from __future__ import annotations

import threading
from typing import Any

import pytest

from latency_service.core.transport import ApiError
from latency_service.runs.schemas import RunProgress
from pruning_client.execution.progress import ProgressEvent
from pruning_client.pipeline.live import Recorder
from pruning_client.reports.schema import Verification


class FakeClient:
    """Keeps what it is sent; refuses while `is_away`."""

    def __init__(self) -> None:
        self.received: list[RunProgress] = []
        self.is_away = False
        self.sent = threading.Event()

    def report_progress(self, run_id: str, news: RunProgress) -> None:
        if self.is_away:
            raise ApiError(0, "unreachable", "Nobody answers.", "Start it.")
        assert run_id == "run-1"
        self.received.append(news)
        self.sent.set()

    @property
    def steps(self) -> list[tuple[int, int]]:
        """Index and step of each entry as it was sent."""
        return [
            (news.first + at, entry.step)
            for news in self.received
            for at, entry in enumerate(news.entries)
        ]


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def recorder(client: Any, pause_seconds: float = 60.0) -> Recorder:
    return Recorder(client, "run-1", pause_seconds=pause_seconds)


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
    live.close()
    assert client.steps == [(0, 1), (1, 2), (2, 3)]
    assert [(news.done, news.total) for news in client.received] == [(3, 9)]


def test_nothing_is_sent_where_nothing_happens(client: FakeClient) -> None:
    live = recorder(client, pause_seconds=0.01)
    live.start()
    live.note(event(1))
    assert client.sent.wait(20)
    live.close()
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
    live.close()
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
    live.close()
    assert client.steps == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]


def test_verifications_are_sent_whole_when_there_are_new_ones(client: FakeClient) -> None:
    live = recorder(client)
    live.start()
    live.note_verifications([verification(1.0)])
    live.note_verifications([verification(1.0), verification(2.0)])
    live.close()
    (news,) = client.received
    assert news.verifications is not None
    assert [one.latency_ms for one in news.verifications] == [1.0, 2.0]
