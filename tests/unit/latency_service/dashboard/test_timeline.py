"""What a device did, as spans of time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from latency_service.dashboard.fleet import timeline
from latency_service.dashboard.fleet.timeline import AttemptRow

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def attempt(**fields: Any) -> AttemptRow:
    usual = {
        "id": "a",
        "job_id": "j",
        "kind": "measure",
        "campaign_id": None,
        "state": "done",
        "leased_at": NOON,
        "finished_at": NOON + timedelta(seconds=60),
        "wall_seconds": 50.0,
        "timed_seconds": 30.0,
        "failure_kind": None,
    }
    return AttemptRow.model_validate({**usual, **fields})


def lanes(one: AttemptRow, now: datetime = NOON) -> dict[str, float]:
    return {span.lane: span.seconds for span in timeline.spans([one], now)}


def test_the_parts_of_an_attempt_add_up_to_it() -> None:
    parts = lanes(attempt())
    assert parts == {timeline.FETCHING: 10.0, timeline.WARMING: 20.0, timeline.TIMING: 30.0}


def test_a_failed_attempt_is_one_span() -> None:
    failed = attempt(state="failed", wall_seconds=None, timed_seconds=None)
    assert lanes(failed) == {timeline.FAILING: 60.0}


def test_an_open_attempt_lasts_until_now() -> None:
    still = attempt(state="open", finished_at=None, wall_seconds=None, timed_seconds=None)
    assert lanes(still, NOON + timedelta(seconds=7)) == {timeline.TRAINING: 7.0}


def test_a_process_that_claims_more_time_than_its_lease_had_is_cut() -> None:
    assert sum(lanes(attempt(wall_seconds=500.0, timed_seconds=400.0)).values()) == 60.0


@pytest.mark.parametrize(("hours", "share"), [(1, 1 / 60), (0.5, 1 / 30)])
def test_the_share_of_busy_time(hours: float, share: float) -> None:
    now = NOON + timedelta(hours=hours)
    assert timeline.busy_share([attempt()], NOON, now) == pytest.approx(share)
