"""The demo data with less of everything, from a device whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from latency_service.core.demo import SPACE_NAME
from pruning_client.demo import fill as demo
from pruning_client.demo.fill import Size
from pruning_client.execution.progress import ProgressEvent
from tests.support.boards import ServedBoard

SMALL = Size(
    architectures=12,
    repeats=2,
    dense_epochs=1,
    gate_epochs=1,
    last_epochs=1,
    verify_seconds=2.0,
    budget="80%",
)


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = demo.digits()
    monkeypatch.setattr(demo, "digits", lambda: (images[:400], labels[:400]))


@pytest.mark.slow
def test_every_page_gets_something_and_a_second_time_nothing_is_made_again(
    served: ServedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtimes = demo.runtimes()
    monkeypatch.setattr(demo, "runtimes", lambda: runtimes[:1])
    phases: list[str] = []

    def note(event: ProgressEvent) -> None:
        phases.append(event.phase)

    client = served.client
    assert demo.fill(client, "board", note, SMALL) == 3
    assert phases[0].startswith("step 1 of 3, campaign on 1 thread: ")
    assert phases[-1].startswith("step 3 of 3, prune by uniform: ")
    assert [space.name for space in client.spaces()] == [SPACE_NAME]
    assert client.predictors()
    runs = client.runs()
    assert {(run.method, run.state) for run in runs} == {("w-gates", "done"), ("uniform", "done")}
    assert demo.fill(client, "board", note, replace(SMALL, architectures=20)) == 0
    assert len(client.runs()) == 2
