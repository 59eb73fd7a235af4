"""A finished pruning job, as its report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from latency_service.devices.schemas import RuntimeConfig
from pruning_client.reports.schema import (
    GroupWidth,
    NetworkFigures,
    Point,
    PredictorFigures,
    Report,
    Spent,
    Verification,
)
from tests.support.analytic import RIVALS


def _network(ms: float, accuracy: float) -> NetworkFigures:
    return NetworkFigures(
        latency_ms=ms,
        lower_ms=0.98 * ms,
        upper_ms=1.02 * ms,
        predicted_ms=1.01 * ms,
        accuracy=accuracy,
        file_bytes=1_360_456,
        parameters=340_114,
        macs=29_071_680,
    )


def _verification(stage: Any, ms: float) -> Verification:
    return Verification(
        stage=stage,
        widths=[8, 8],
        predicted_ms=1.02 * ms,
        latency_ms=ms,
        lower_ms=0.99 * ms,
        upper_ms=1.01 * ms,
        verdict="ok",
        measurement_id="m",
        model_sha256="0" * 64,
    )


def pruning_report(**changes: Any) -> Report:
    """A job on a board, with some fields changed."""
    made = Report(
        name="net <b>",
        created_at=datetime(2025, 6, 1, tzinfo=UTC),
        budget_ms=0.6,
        budget="60%",
        outcome="met",
        probability=0.998,
        verification=Spent(readings=5, seconds=48.0, waited_seconds=10.0),
        over_percent=-1.5,
        dense=_network(1.0, 98.5),
        pruned=_network(0.591, 98.1),
        predictor=PredictorFigures(
            id="p1",
            version=1,
            model="lpnet",
            source="local",
            measurements=120,
            mape=3.1,
            repeat_difference=0.7,
            rivals=RIVALS,
        ),
        widths=[
            GroupWidth(name=f"conv{g}", before=16, after=4 * g + 4, members=[f"conv{g}"])
            for g in range(3)
        ],
        unprunable={"fc": "the network's output"},
        device="board",
        runtime=RuntimeConfig(),
        fingerprint="f" * 64,
        space_id="5" * 64,
        method="w-gates",
        config={},
        seed=0,
        verifications=[
            _verification("dense", 1.0),
            _verification("structure", 0.58),
            _verification("delivered", 0.591),
        ],
        points=[Point(measured_ms=0.1 * k, predicted_ms=0.1 * k + 0.01) for k in range(1, 10)],
        history=[
            {"phase": "prune", "step": 5, "loss": 0.5, "latency_ms": 0.9, "multiplier": 0.1},
            {"phase": "prune", "step": 10, "loss": 0.4, "latency_ms": 0.6, "accuracy": 90.0},
            {"phase": "fine-tune", "step": 7, "loss": 0.2, "accuracy": 97.0},
        ],
        denormals_flushed=0,
        timings_seconds={"campaign": 60.0},
        versions={"torch": "2.13"},
        command="pruning-client",
    )
    return made.model_copy(update=changes)
