"""What a report is filled with."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from latency_service.measurements.schemas import MeasurementView
from pruning_client.methods.base import Picture, Selection
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.report import _pictures, _points
from tests.support import views


def measurement(ms: float, **summary: Any) -> MeasurementView:
    view = MeasurementView.model_validate(views.measurement())
    return view.model_copy(
        update={"summary": view.summary.model_copy(update={"latency_ms": ms, **summary})}
    )


def test_pictures_go_into_the_report() -> None:
    picture = Picture(title="patterns", note="of clusters", png=b"content")
    (found,) = _pictures(Selection(keep=[], scores=[], pictures=[picture]))
    assert (found.title, found.note) == ("patterns", "of clusters")
    assert base64.b64decode(found.png) == b"content"


def test_the_report_shows_every_architecture_that_can_be_learnt_from() -> None:
    """Those that are only less precise than asked for among them; neither delivered files nor other
    targets.
    """
    kept = [measurement(1.0), measurement(1.1, verdict="unstable")]
    others = [
        measurement(1.2, verdict="unstable", trainable=False),
        measurement(1.3).model_copy(update={"model_sha256": "0" * 64}),
        measurement(1.4).model_copy(update={"target_id": "target-2"}),
    ]
    client = SimpleNamespace(measurements=lambda **_: [*kept, *others])
    predictor = SimpleNamespace(latency_ms=lambda widths: np.full(len(widths), 1.05))
    goal = SimpleNamespace(
        device=SimpleNamespace(name="board"),
        evidence=SimpleNamespace(dense=SimpleNamespace(target_id="target-1")),
        predictor=predictor,
    )
    found = _points(
        cast(PruningJob, SimpleNamespace(client=client, space_id="s")), cast(Goal, goal)
    )
    assert [point.measured_ms for point in found] == [1.0, 1.1]
    assert [point.predicted_ms for point in found] == pytest.approx([1.05, 1.05])
