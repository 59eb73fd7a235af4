"""Contests made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from latency_service.devices.schemas import RuntimeConfig
from pruning_client.reports.contest_schema import Contest, ContestEntry, ContestResult
from pruning_client.reports.schema import Front, FrontPoint


def result(accuracy: float, **more: Any) -> ContestResult:
    values: dict[str, Any] = {
        "latency_ms": 0.6,
        "lower_ms": 0.59,
        "upper_ms": 0.61,
        "dense_ms": 1.0,
        "outcome": "met",
        "over_percent": -0.4,
        "accuracy": accuracy,
        "dense_accuracy": 98.0,
        "is_equal": True,
        "widths": [8, 8],
        "parameters": 1200,
        "macs": 64000,
        "file_bytes": 9000,
        "selecting_seconds": 20.0,
        "training_seconds": 40.0,
        "folder": "60pct/seed-0/uniform",
        "run_id": None,
    }
    return ContestResult(**{**values, **more})


def entry(
    method: str, found: ContestResult | None, *, seed: int = 0, budget: str = "60%", **more: Any
) -> ContestEntry:
    return ContestEntry(
        method=method,
        budget=budget,
        seed=seed,
        own_epochs=0,
        finetune_epochs=4,
        result=found,
        **more,
    )


def contest(entries: Sequence[ContestEntry]) -> Contest:
    points = [_point(one.method, one.budget, one.result) for one in entries if one.result]
    return Contest(
        name="Net <b>",
        created_at=datetime(2025, 6, 1, tzinfo=UTC),
        device="board",
        runtime=RuntimeConfig(),
        methods=list(dict.fromkeys(one.method for one in entries)),
        budgets=list(dict.fromkeys(one.budget for one in entries)),
        seeds=sorted({one.seed for one in entries}),
        epochs=4,
        allowed_percent=2.0,
        front=Front(points=points, failures={}, dense_ms=1.0, dense_accuracy=98.0),
        entries=list(entries),
        config={},
        versions={"torch": "2.13"},
        command="pruning-client compare-methods",
    )


def _point(method: str, budget: str, found: ContestResult) -> FrontPoint:
    return FrontPoint(
        name="Net",
        method=method,
        allocator=None,
        device="board",
        budget=budget,
        budget_ms=0.603,
        met=found.outcome == "met",
        over_percent=found.over_percent,
        latency_ms=found.latency_ms,
        lower_ms=found.lower_ms,
        upper_ms=found.upper_ms,
        accuracy=found.accuracy,
        accuracy_drop=98.0 - found.accuracy,
        speed_up=1.7,
        mac_reduction=2.0,
        seed=0,
        run_id=None,
        command="",
    )
