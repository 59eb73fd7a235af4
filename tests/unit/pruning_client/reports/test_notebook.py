"""What a notebook shows: results, and progress under a cell."""

from __future__ import annotations

import sys
import time
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console
from torch import nn

from pruning_client.execution.progress import ProgressEvent
from pruning_client.pipeline.compare import front_of
from pruning_client.pipeline.result import PruneResult
from pruning_client.reports.progress_bars import ProgressBars
from tests.support.contests import contest, entry, result
from tests.support.pages import Page
from tests.support.reports import pruning_report

#: A notebook keeps what it shows: small enough to be kept a hundred times.
MOST_BYTES = 20_000


def shown(value: Any) -> str:
    """Text of what a notebook shows; it loads and runs nothing."""
    html = value._repr_html_()
    assert len(html) < MOST_BYTES
    assert "<script" not in html
    page = Page()
    page.feed(html)
    assert page.loaded == []
    return " ".join(page.text.split())


def test_a_result_shows_its_report() -> None:
    report = pruning_report(warnings=["a <warning>"])
    module = nn.Identity()
    made = PruneResult(module=module, report=report, file=b"", checkpoint=b"")
    text = shown(made)
    assert text == shown(report)
    for expected in (
        "net <b>, pruned for board: budget 0.600 ms met.",
        "1.5 % under it",
        "dense 1.000 0.980 – 1.020",
        "pruned 0.591 0.579 – 0.603",
        "98.1 %",
        "channels 24 of 48",
        "held-out error 3.1 %, repeats differ by 0.7 %",
        "a <warning>",
    ):
        assert expected in text


def test_several_runs_show_what_could_not_be_had() -> None:
    config = {"method": {}}
    front = front_of([pruning_report(config=config)], {"10%": "<too> low"})
    text = shown(front)
    assert "1 run, fastest first." in text
    assert "net <b> w-gates board 60% 0.591" in text
    assert "10%: <too> low" in text


def test_a_comparison_shows_the_best_method_and_those_that_failed() -> None:
    made = contest([entry("uniform", result(90.0)), entry("pfp", None, failure="needs <labels>")])
    text = shown(made)
    assert "uniform 90.0 %" in text
    assert "best" in text
    assert "pfp failed" in text


class _Output:
    """An output of a cell, as IPython keeps it."""

    def __init__(self) -> None:
        self.drawn: list[str] = []

    def update(self, content: str) -> None:
        self.drawn.append(content)


def test_progress_is_one_output_of_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = []

    def display(content: str, *, display_id: bool) -> _Output:
        assert display_id
        outputs.append(_Output())
        outputs[-1].update(content)
        return outputs[-1]

    module = ModuleType("IPython.display")
    vars(module).update(HTML=str, display=display)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with ProgressBars(Console(force_jupyter=True)) as bars:
        bars(ProgressEvent(phase="measure <it>", done=3, total=12, unit="architectures"))
        time.sleep(0.7)
        bars(ProgressEvent(phase="prune", done=1, total=4, figures={"loss": "0.1"}))
    (output,) = outputs
    assert "measure &lt;it&gt;" in output.drawn[0]
    assert "3/12 architectures" in output.drawn[0]
    assert "loss 0.1" in output.drawn[-1]
    assert not any("<script" in one for one in output.drawn)
