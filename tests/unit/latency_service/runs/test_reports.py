"""Reports are written by clients: whatever form a part has, reading it is no error."""

from __future__ import annotations

from typing import Any

import pytest

from latency_service.runs import reports
from latency_service.runs.schemas import NetworkSummary

PARTS = (
    "history",
    "verifications",
    "widths",
    "layers",
    "warnings",
    "timings_seconds",
    "versions",
    "runtime",
    "verification",
    "config",
)
ODD: tuple[object, ...] = (
    None,
    True,
    -1,
    1e308,
    "text",
    [],
    [None],
    [[1]],
    [{"name": 3}],
    {},
    {"a": [1]},
    {"": {}},
)


@pytest.mark.parametrize("part", PARTS)
def test_no_form_of_a_part_is_an_error(part: str) -> None:
    for plain in ODD:
        report = {part: plain}
        reports.read(report)
        reports.entries_of(reports.list_of(report, "history"))
        reports.verifications_of(reports.list_of(report, "verifications"))


@pytest.mark.parametrize("report", [None, [], "text", 3, {}])
def test_a_report_without_parts_has_none(report: Any) -> None:
    found = reports.read(report)
    assert (found.widths, found.settings, found.runtime) == ([], {}, None)
    assert reports.list_of(report, "history") is None


def test_entries_of_another_form_are_left_out() -> None:
    found = reports.read(
        {
            "widths": [{"name": "stem", "before": 0, "after": 0}, {"name": "a", "before": 4}, None],
            "layers": [{"name": "stem", "before_ms": 0.4, "after_ms": -0.1}],
            "warnings": ["one", {"no": "text"}],
            "timings_seconds": {"prune": 2.0, "export": "long"},
        }
    )
    assert (found.widths, found.layers, found.warnings) == ([], [], ["one"])
    assert found.timings_seconds == {"prune": 2.0}
    entries = [{"phase": "prune"}, 3, {"phase": "prune", "step": 1, "own": "kept"}]
    assert [entry.step for entry in reports.entries_of(entries)] == [1]
    assert reports.verifications_of([{"stage": "dense"}, None]) == []


def test_settings_are_flattened() -> None:
    config = {"method": {"epochs": 5, "widths": [1, 2]}, "seed": 0}
    found = reports.read({"config": config}).settings
    assert found == {"method.epochs": "5", "method.widths": "[1, 2]", "seed": "0"}


@pytest.mark.parametrize(
    ("figures", "latency_ms"),
    [
        ({"latency_ms": 2.0}, 2.0),
        ({"latency_ms": 2.0, "lower_ms": 1.9}, 2.0),
        ({"latency_ms": 2.0, "lower_ms": 2.1, "upper_ms": 2.2}, 2.0),
        ({"latency_ms": 2.0, "lower_ms": -1.0, "upper_ms": 2.2}, 2.0),
        ({"latency_ms": 0.0, "lower_ms": 0.0, "upper_ms": 0.0}, None),
        ({"lower_ms": 1.9, "upper_ms": 2.1}, None),
    ],
)
def test_an_interval_is_whole_or_not_there(
    figures: dict[str, float], latency_ms: float | None
) -> None:
    summary = NetworkSummary.model_validate(figures)
    assert (summary.latency_ms, summary.lower_ms, summary.upper_ms) == (latency_ms, None, None)
