"""The demo data with less of everything, from a device whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from latency_service.core.demo import SPACE_NAME
from pruning_client.demo import fill as demo
from pruning_client.demo.fill import Filled, Size, Step
from pruning_client.errors import MeasurementFailed
from pruning_client.execution.progress import Progress, ProgressEvent, silent
from tests.support.boards import ServedBoard

SMALL = Size(
    architectures=12,
    repeats=2,
    compared=4,
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
    monkeypatch.setattr(demo.psutil, "cpu_count", lambda: 2)
    phases: list[str] = []

    def note(event: ProgressEvent) -> None:
        phases.append(event.phase)

    client = served.client
    assert demo.fill(client, "board", note, SMALL) == Filled(made=4, failed={})
    assert phases[0].startswith("step 1 of 4, campaign on 1 thread: ")
    assert phases[-1].startswith("step 4 of 4, prune by uniform: ")
    second = {phase for phase in phases if phase.startswith("step 2")}
    assert second == {"step 2 of 4, the same on 2 threads: measure"}
    assert [space.name for space in client.spaces()] == [SPACE_NAME]
    assert {view.runtime.intra_threads for view in client.predictors()} == {1}
    assert {view.runtime.intra_threads for view in client.campaigns()} == {1, 2}
    runs = client.runs()
    assert {(run.method, run.state) for run in runs} == {("w-gates", "done"), ("uniform", "done")}
    again = demo.fill(client, "board", note, replace(SMALL, architectures=20))
    assert again == Filled(made=0, failed={})
    assert len(client.runs()) == 2


def test_a_step_that_fails_does_not_keep_the_others_from_being_made(
    served: ServedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def busy(_progress: Progress) -> None:
        raise MeasurementFailed("Too busy.", "Try again.")

    steps = [
        Step(name="first", is_there=lambda: False, make=busy),
        Step(name="second", is_there=lambda: False, make=lambda _progress: made.append("second")),
    ]
    monkeypatch.setattr(demo, "_campaigns", lambda *_: steps)
    monkeypatch.setattr(demo, "_runs", lambda *_: [])
    filled = demo.fill(served.client, "board", silent, SMALL)
    assert made == ["second"]
    assert (filled.made, list(filled.failed)) == (1, ["first"])
