"""Methods compared on a real service: real digits, real training, a device whose truth is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from pruning_client import (
    Campaign,
    Contest,
    EqualLatency,
    ProgressEvent,
    RayCluster,
    Report,
    Training,
    Uniform,
    UsageError,
    WGates,
    compare_methods,
    load,
)
from pruning_client.execution.copies import copied
from pruning_client.methods.base import Context, Selection
from pruning_client.methods.registry import METHODS, comparable
from pruning_client.training.memory_format import in_format
from tests.support.boards import ServedBoard
from tests.support.short_methods import short
from tests.support.tiny_networks import TinyNet, digits, tiny_net

TRAINING = Training(epochs=1, lr=0.03, batch_size=64, recalibration_batches=5)
CAMPAIGN = Campaign(architectures=12, repeats=2, timeout_seconds=60)
EQUALITY = EqualLatency(passes=1, readings=1, most_readings=1)


def go(served: ServedBoard, model: torch.nn.Module, out: Path, **more: Any) -> Contest:
    arguments: dict[str, Any] = {
        "budgets": ["60%"],
        "methods": [Uniform(), WGates(epochs=1)],
        "client": served.client,
        "training": TRAINING,
        "campaign": CAMPAIGN,
        "equality": EQUALITY,
        "out_dir": out,
        **more,
    }
    images, labels = digits()
    return compare_methods(model, (images[:800], labels[:800]), **arguments)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Uniform widths, and how often they were asked for."""

    runs: ClassVar[list[int]] = []
    name = "counted"

    def run(self, context: Context) -> Selection:
        self.runs.append(context.training.seed)
        return Uniform().run(context)


@dataclass(frozen=True, kw_only=True)
class Failing:
    """A method that this network is out of reach for."""

    name = "failing"

    def run(self, context: Context) -> Selection:
        raise UsageError("This method needs a larger network.", "Take another one.")


def test_two_methods_at_one_latency(served: ServedBoard, trained: TinyNet, tmp_path: Path) -> None:
    contest = go(served, trained, tmp_path, methods=[Uniform(), WGates(epochs=1), Failing()])
    results = {entry.method: entry.result for entry in contest.entries}
    uniform, gates = results["uniform"], results["w-gates"]
    assert uniform is not None
    assert gates is not None
    assert results["failing"] is None
    # one latency, below the budget, and one effort
    assert uniform.latency_ms == pytest.approx(gates.latency_ms, rel=0.02)
    assert max(uniform.over_percent, gates.over_percent) < 0
    epochs = {(entry.own_epochs, entry.finetune_epochs) for entry in contest.entries}
    assert epochs == {(0, 2), (1, 1)}
    # the reason of the third is told, and the comparison is not ended by it
    (failed,) = (row for row in contest.standings if row.method == "failing")
    assert failed.failures == ["seed 0: This method needs a larger network."]
    assert contest.standings[-1] is not None
    # the winner can be taken
    for result in (uniform, gates):
        folder = tmp_path / result.folder
        report = Report.model_validate_json((folder / "report.json").read_text())
        assert report.pruned.latency_ms == result.latency_ms
        small = load(tiny_net(), folder / "pruned.safetensors").eval()
        assert small(torch.rand(2, 1, 8, 8)).shape == (2, 10)
        assert (folder / "pruned.onnx").exists()
    written = json.loads((tmp_path / "contest.json").read_text())
    assert Contest.model_validate(written) == contest
    assert [row["method"] for row in written["standings"]][-1] == "failing"
    page = (tmp_path / "contest.html").read_text()
    assert page.count("Plotly.newPlot") >= 2
    # a finished contest is read from the disk
    jobs = len(served.board.jobs)
    again = go(
        served,
        trained,
        tmp_path,
        methods=[Uniform(), WGates(epochs=1), Failing()],
        resume=True,
    )
    assert again.entries == contest.entries
    assert len(served.board.jobs) == jobs


def test_what_a_method_has_found_out_reaches_its_report(
    served: ServedBoard, trained: TinyNet, tmp_path: Path
) -> None:
    methods = [short("functionality")]
    contest = go(served, trained, tmp_path, methods=methods)
    page = (tmp_path / "60pct/seed-0/functionality/report.html").read_text()
    assert "data:image/png;base64," in page
    again = go(served, trained, tmp_path, methods=methods, resume=True)
    assert again.entries == contest.entries


@pytest.mark.long
def test_every_method_can_be_compared(
    served: ServedBoard, trained: TinyNet, tmp_path: Path
) -> None:
    names = [method.name for method in comparable(METHODS.values())]
    assert "dcph" not in names
    methods = [short(name) for name in names]
    # as jobs train where the processor is faster with it
    model = in_format(copied(trained), torch.channels_last)
    contest = go(served, model, tmp_path, methods=methods)
    assert {entry.method: entry.failure for entry in contest.entries} == dict.fromkeys(names)
    again = go(served, model, tmp_path, methods=methods, resume=True)
    assert again.entries == contest.entries


class Killed(Exception):
    """The end of a process."""


def test_a_stopped_contest_goes_on_where_it_was(
    served: ServedBoard, trained: TinyNet, tmp_path: Path
) -> None:
    Counted.runs.clear()
    methods = [Counted(), WGates(epochs=2)]

    def kill(event: ProgressEvent) -> None:
        if event.phase == "w-gates, seed 0: prune" and event.done > event.total // 2 + 1:
            raise Killed

    with pytest.raises(Killed):
        go(served, trained, tmp_path, methods=methods, progress=kill)
    steps: list[int] = []

    def watch(event: ProgressEvent) -> None:
        if event.phase == "w-gates, seed 0: prune":
            steps.append(event.done)

    contest = go(served, trained, tmp_path, methods=methods, progress=watch, resume=True)
    assert Counted.runs == [0], "a finished method is not repeated"
    assert steps[0] > 1, "the running one goes on from its checkpoint"
    assert [entry.failure for entry in contest.entries] == [None, None]
    with pytest.raises(UsageError, match="another job"):
        go(served, trained, tmp_path, methods=[Counted()], resume=True)


@pytest.mark.long
def test_a_cluster_trains_and_the_files_come_back(
    served: ServedBoard, trained: TinyNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it would wait for whatever else this machine is busy with
    monkeypatch.setenv("RAY_worker_niceness", "0")
    cluster = RayCluster("local", model="tests.support.tiny_networks:tiny_net")
    methods = [Uniform(), Failing()]
    contest = go(served, trained, tmp_path, methods=methods, cluster=cluster)
    failures = {entry.method: entry.failure for entry in contest.entries}
    assert failures == {"uniform": None, "failing": "This method needs a larger network."}
    for entry in contest.entries:
        if entry.result is not None:
            assert (tmp_path / entry.result.folder / "pruned.onnx").exists()


@pytest.mark.long
def test_wherever_it_is_stopped_it_ends_the_same(
    served: ServedBoard, trained: TinyNet, tmp_path: Path
) -> None:
    methods = [Uniform(), WGates(epochs=1)]
    stops = list[ProgressEvent]()

    def count(event: ProgressEvent) -> None:
        if can_stop(event):
            stops.append(event)

    whole = go(served, trained, tmp_path / "whole", methods=methods, progress=count)
    for part in range(1, 6):
        left = len(stops) * part // 6

        def kill(event: ProgressEvent) -> None:
            nonlocal left
            left -= can_stop(event)
            if left == 0:
                raise Killed

        out = tmp_path / f"part-{part}"
        with pytest.raises(Killed):
            go(served, trained, out, methods=methods, progress=kill)
        assert outcomes(go(served, trained, out, methods=methods, resume=True)) == outcomes(whole)


def can_stop(event: ProgressEvent) -> bool:
    """Whether as many such events come in every contest; a campaign's depend on the clock."""
    return ", seed 0: " in event.phase or event.phase == "measure the files of all methods"


def outcomes(contest: Contest) -> list[tuple[str, list[int], float]]:
    """Method, widths and accuracy of every entry."""
    return [
        (entry.method, entry.result.widths, entry.result.accuracy)
        for entry in contest.entries
        if entry.result is not None
    ]
