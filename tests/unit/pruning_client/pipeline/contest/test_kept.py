"""Finished steps of a contest come back from the disk as they were."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from pruning_client.execution.progress import ProgressEvent, silent
from pruning_client.methods.base import Picture, Selection
from pruning_client.pipeline.contest import kept
from pruning_client.pipeline.contest.kept import (
    KeptSeconds,
    Selected,
    SelectionRecord,
    SharedJournal,
)
from tests.support.tiny_networks import tiny_net

EVENT = ProgressEvent(phase="prune", done=1, total=2)


def selected(history: list[dict[str, object]]) -> Selected:
    whole = copy.deepcopy(tiny_net())
    with torch.no_grad():
        whole.conv.weight.add_(1)
    selection = Selection(
        keep=[np.array([0, 2, 5]), np.array([1])],
        scores=[np.linspace(0.1, 1, 16), np.full(16, 0.25)],
        history=history,
        facts={"clusters": 3},
        pictures=[Picture(title="patterns", note="of a layer", png=b"\x89PNG\xff\x00")],
        notes=["mind the gap"],
    )
    record = SelectionRecord(
        seconds=3.5,
        timings_seconds={"prune": 3.0},
        warnings=["mind the step"],
        rest=kept.rest_of(selection),
    )
    return Selected(whole=whole, selection=selection, record=record)


def test_a_selection_comes_back_with_the_weights_that_were_trained(tmp_path: Path) -> None:
    made = selected([{"phase": "prune", "step": 1, "loss": 0.5}])
    kept.save_selection(tmp_path, tiny_net(), made)
    assert kept.is_finished(tmp_path)
    found = kept.load_selection(tmp_path, tiny_net(), groups=2)
    assert found.record == made.record
    for name in ("history", "facts", "pictures", "notes"):
        assert getattr(found.selection, name) == getattr(made.selection, name)
    for name in ("keep", "scores"):
        pairs = zip(getattr(found.selection, name), getattr(made.selection, name), strict=True)
        assert all(np.array_equal(*pair) for pair in pairs)
    assert all(
        torch.equal(value, made.whole.state_dict()[name])
        for name, value in found.whole.state_dict().items()
    )
    # what was not trained is not written once more
    tensors = load_file(tmp_path / "selection.safetensors")
    assert [name for name in tensors if name.startswith("model.")] == ["model.conv.weight"]


def test_a_failure_is_kept_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "l1"
    assert kept.failure_of(folder) is None
    assert not kept.is_finished(folder)
    kept.save_failure(folder, "out of reach")
    assert kept.is_finished(folder)
    assert kept.failure_of(folder) == "out of reach"


def test_the_time_of_a_stopped_step_is_counted(tmp_path: Path) -> None:
    now = [100.0]
    first = KeptSeconds(tmp_path, clock=lambda: now[0])
    events: list[ProgressEvent] = []
    report = first.seen_by(events.append)
    now[0] += 0.5
    report(EVENT)
    now[0] += 7.0
    report(EVENT)
    assert events == [EVENT, EVENT]
    now[0] += 1000.0  # the process is killed, and started again
    second = KeptSeconds(tmp_path, clock=lambda: now[0])
    now[0] += 2.0
    assert second.seconds == 9.5


def test_what_is_done_once_counts_for_every_step_that_uses_it(tmp_path: Path) -> None:
    now = [0.0]
    shared = tmp_path / "shared"
    folders = [tmp_path / name for name in ("60pct", "40pct")]
    for folder in folders:
        folder.mkdir()
    first = KeptSeconds(folders[0], clock=lambda: now[0])
    journal = SharedJournal(shared, folders[0], first)
    now[0] += 5.0
    journal.save("scaling", {}, {})
    now[0] += 2.0
    assert journal.earlier_seconds + first.seconds == 7.0
    second = KeptSeconds(folders[1], clock=lambda: now[0])
    other = SharedJournal(shared, folders[1], second)
    assert other.load("scaling") is not None
    now[0] += 3.0
    assert other.earlier_seconds + second.seconds == 8.0
    # a stopped step that goes on has its own time already, one that starts again has not
    again = KeptSeconds(folders[0], clock=lambda: now[0])
    assert SharedJournal(shared, folders[0], again).earlier_seconds == 5.0
    now[0] += 1.0
    first.seen_by(silent)(EVENT)
    stopped = KeptSeconds(folders[0], clock=lambda: now[0])
    assert SharedJournal(shared, folders[0], stopped).earlier_seconds == 0.0
