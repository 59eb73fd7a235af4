from __future__ import annotations

import html
import io
import re
import time

import pytest
from rich.console import Console

from latency_service.core.standalone import CONTENT_SECURITY_POLICY
from pruning_client.execution.progress import ProgressEvent
from pruning_client.reports import figures
from pruning_client.reports.html import render
from pruning_client.reports.progress_bars import ProgressBars
from pruning_client.reports.schema import (
    FileFigures,
    Picture,
    Point,
    QuantisedFigures,
    Report,
)
from pruning_client.reports.terminal import print_report
from tests.support.pages import Page
from tests.support.reports import pruning_report


@pytest.fixture
def report() -> Report:
    return pruning_report()


def test_the_page_stands_alone_and_says_the_result(report: Report) -> None:
    rendered = render(report)
    page = Page()
    page.feed(rendered)
    assert page.loaded == []
    text = " ".join(page.text.split())
    for expected in (
        "Budget 0.600 ms met",
        "1.5 % under it",
        "0.591 ms",
        "98.1 %",
        "−0.4 points",
        "340 k",
        "29.1 M",
        "lpnet",
        "3.1 %",
    ):
        assert expected in text
    assert "net <b>, pruned for board" in text  # escaped, not markup
    assert rendered.count("plotly.js v") == 1
    assert rendered.count("Plotly.newPlot") >= 3


def test_the_page_asks_nobody_and_prints(report: Report) -> None:
    page = render(report)
    assert f'content="{html.escape(CONTENT_SECURITY_POLICY)}"' in page
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY
    assert "@media print" in page


def test_a_long_job_stays_below_six_megabytes() -> None:
    """With as many architectures and steps as a large job has."""
    points = [Point(measured_ms=1 + k / 7, predicted_ms=1 + k / 7.1) for k in range(20_000)]
    history = [
        {"phase": "prune", "step": k, "loss": 1 / (k + 3), "latency_ms": 1 / (k + 7)}
        for k in range(100_000)
    ]
    assert len(render(pruning_report(points=points, history=history))) < 6e6


def test_the_loss_of_mixed_images_is_another_curve(report: Report) -> None:
    """Their accuracies belong to the one curve, their losses do not."""
    history = [
        {"phase": "fine-tune", "step": k, ("mixed_loss" if k % 2 else "loss"): 1 + k, "accuracy": k}
        for k in range(6)
    ]
    loss, _, accuracy = figures.trajectory(report.model_copy(update={"history": history})).data
    assert list(loss.y) == [1, 3, 5]
    assert list(accuracy.y) == [0, 1, 2, 3, 4, 5]


def test_a_miss_is_said(report: Report) -> None:
    missed = report.model_copy(
        update={"outcome": "not met", "probability": 0.0, "over_percent": 4.2}
    )
    page = Page()
    page.feed(render(missed))
    assert "not met 4.2 % over it" in " ".join(page.text.split())


def test_int8_stands_beside_fp32_with_its_warnings(report: Report) -> None:
    quantised = QuantisedFigures(
        calibration="entropy",
        images=96,
        max_accuracy_drop=1.0,
        float_layers=["features.0", "head"],
        fp32=FileFigures(
            latency_ms=0.412, lower_ms=0.41, upper_ms=0.414, accuracy=98.4, file_bytes=1_360_456
        ),
        dense_fp32_accuracy=98.7,
    )
    warnings = ["int8 is slower than fp32 on <board>"]
    shown = report.model_copy(update={"quantised": quantised, "warnings": warnings})
    page = Page()
    page.feed(render(shown))
    text = " ".join(page.text.split())
    for expected in ("0.412", "98.4 %", "1.36 MB", "entropy", "features.0, head", *warnings):
        assert expected in text
    console = Console(record=True, width=200)
    print_report(shown, console)
    printed = console.export_text()
    for expected in ("pruned, fp32", "0.412", "1,360", "features.0, head", *warnings):
        assert expected in printed


def test_the_method_has_its_say(report: Report) -> None:
    """Facts in every form of the report, pictures in the page, which still loads nothing."""
    facts = {"error <seen>, %": 1.23456, "images": 150, "reweighted": True}
    picture = Picture(title="patterns", note="one for each cluster", png="iVBORw0KGgo=")
    shown = report.model_copy(update={"facts": facts, "pictures": [picture]})
    page = Page()
    page.feed(render(shown))
    text = " ".join(page.text.split())
    for expected in ("error <seen>, % 1.235", "images 150", "reweighted yes", "one for each"):
        assert expected in text
    assert page.loaded == ["data:image/png;base64,iVBORw0KGgo="]
    console = Console(record=True, width=132)
    print_report(shown, console)
    assert "error <seen>, %: 1.235" in console.export_text()
    assert Report.model_validate_json(shown.model_dump_json()).facts == facts
    assert "What the method says" not in render(report)


def test_without_training_there_is_no_trajectory(report: Report) -> None:
    assert "<h2>Training</h2>" in render(report)
    assert "<h2>Training</h2>" not in render(report.model_copy(update={"history": []}))


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("predicted_against_measured", {"measured latency, ms", "predicted latency, ms"}),
        ("widths", {"channels", "width group"}),
        ("trajectory", {"loss (log)", "predicted latency, ms", "accuracy, %", "training step"}),
    ],
)
def test_axes_are_labelled_with_units(report: Report, name: str, titles: set[str]) -> None:
    layout = getattr(figures, name)(report).to_dict()["layout"]
    found = {
        axis["title"]["text"]
        for key, axis in layout.items()
        if re.match(r"[xy]axis", key) and "text" in axis["title"]
    }
    assert found == titles


def test_the_identity_and_all_points_are_drawn(report: Report) -> None:
    data = figures.predicted_against_measured(report).to_dict()["data"]
    identity = next(trace for trace in data if trace["name"] == "predicted = measured")
    assert list(identity["x"]) == list(identity["y"])
    assert len(next(trace for trace in data if "sampled" in trace["name"])["x"]) == 9


def test_phases_follow_each_other_on_one_axis(report: Report) -> None:
    losses = figures.trajectory(report).to_dict()["data"][0]
    assert list(losses["x"]) == [5, 10, 17]


def test_a_log_gets_a_line_from_every_phase_at_regular_times() -> None:
    """Also from a phase that reports nothing while it works."""
    log = io.StringIO()
    console = Console(file=log, width=132)
    with ProgressBars(console, line_seconds=0.05) as bars:
        bars(ProgressEvent(phase="export", done=0, total=1))
        time.sleep(0.3)
        figures = {"loss": "0.1", "images/s": "70"}
        bars(ProgressEvent(phase="prune", done=1, total=4, unit="batches", figures=figures))
        time.sleep(0.3)
    lines = log.getvalue().splitlines()
    assert sum(line.startswith("export  0/1") for line in lines) >= 2
    training = next(line for line in reversed(lines) if line.startswith("prune  1/4 batches"))
    assert re.search(r"loss 0\.1  images/s 70  .* left  \d+\.\d GB", training)


def test_the_terminal_shows_table_and_progress(report: Report) -> None:
    console = Console(width=132, record=True, force_terminal=False)
    with console.capture() as captured, ProgressBars(console) as bars:
        bars(ProgressEvent(phase="measure", done=3, total=10, unit="architectures"))
        bars(ProgressEvent(phase="prune", done=1, total=4, unit="batches", figures={"loss": "0.1"}))
    assert "measure" in captured.get()
    with console.capture() as captured:
        print_report(report, console)
    for expected in (
        "0.591",
        "340,114",
        "met: measured 1.5 % under it on board",
        "repeat difference 0.7 %",
    ):
        assert expected in captured.get()
