"""The README's numbers from the committed results: one row for each claim."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.support.summaries import span

Document = dict[str, Any]


def headlines(documents: dict[str, Document]) -> list[dict[str, str]]:
    """Six claims, each with the benchmark that measured it.

    Args:
        documents: every result by the benchmark's name.
    """
    return [
        {"what": what, "measured": measured, "from": f"[{name}](docs/benchmarks.md#{name})"}
        for what, measured, name in (
            _budget(documents["budget"]),
            _accuracy(documents["accuracy"]),
            _lpnet(documents["lpnet"]),
            _repeatability(documents["repeatability"]),
            _cold_start(documents["cold-start"]),
            _serving(documents["serving"]),
        )
    ]


def _budget(document: Document) -> tuple[str, str, str]:
    cases = document["data"]["cases"]
    below = [-case["over_percent"] for case in cases if not case["refused"]]
    loaded = sum(case["condition"] == "loaded" for case in cases)
    what = f"{len(cases)} pruning jobs, {loaded} beside random load: file below its budget"
    return what, f"{span(below)} %, median {statistics.median(below):.1f} %", "budget"


def _accuracy(document: Document) -> tuple[str, str, str]:
    means = {
        method: statistics.mean(
            case["accuracy"]
            for case in document["data"]["cases"]
            if case["method"] == method and case["share"] == 0.5
        )
        for method in ("w-gates", "uniform")
    }
    what = "ResNet-20 on CIFAR-10 at half its latency: accuracy of W-Gates / of uniform widths"
    return what, f"{means['w-gates']:.1f} / {means['uniform']:.1f} %", "accuracy"


def _lpnet(document: Document) -> tuple[str, str, str]:
    network = document["data"]["resnet20"]
    error = network["trained"]["100"]["mape"]
    what = "ResNet-20, 100 measurements: LPNet's held-out error / two measurements' difference"
    return what, f"{error:.2f} / {network['repeat_difference']:.2f} %", "lpnet"


def _repeatability(document: Document) -> tuple[str, str, str]:
    rows = [row for row in document["rows"] if row["condition"] == "loaded"]
    corrected, usual = (
        [float(row[f"{way}, median / 90th"].split(" / ")[0]) for row in rows]
        for way in ("corrected", "median")
    )
    what = "The same network measured twice beside random load / medians of 50 runs: difference"
    return what, f"{span(corrected)} / {span(usual, digits=0)} %", "repeatability"


def _cold_start(document: Document) -> tuple[str, str, str]:
    seconds, error = document["bars"][0]["value"], document["data"]["mape"]
    what = "One command, from an empty folder to a served predictor of a ResNet-44"
    return what, f"{seconds:.0f} s, held-out error {error:.1f} %", "cold-start"


def _serving(document: Document) -> tuple[str, str, str]:
    cpu = document["data"]["cpu_us_per_request"]
    rate = document["data"]["binary"]["per_cpu_second"]
    what = "Server CPU of one prediction / of `/healthz`; binary predictions for each CPU second"
    return what, f"{cpu['predict'] / cpu['healthz']:.1f}; {rate:,.0f}", "serving"
