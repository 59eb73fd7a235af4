"""How fast a campaign is, and how long it still takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from latency_service.dashboard.campaigns.progress import phase_state, rate_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ended(*seconds_ago: float) -> list[tuple[datetime, int]]:
    """Ends of jobs of 8 architectures each, last first."""
    return [(NOON - timedelta(seconds=seconds), 8) for seconds in seconds_ago]


def test_the_rate_is_that_of_the_last_jobs() -> None:
    rate = rate_of(ended(0, 10, 20), 40, NOON)
    assert rate is not None
    assert rate.architectures_per_minute == pytest.approx(48)
    assert rate.seconds_left == pytest.approx(50)


def test_a_campaign_that_has_stopped_does_not_keep_its_rate() -> None:
    moving = rate_of(ended(0, 10, 20), 40, NOON)
    stuck = rate_of(ended(600, 610, 620), 40, NOON)
    assert moving is not None
    assert stuck is not None
    assert stuck.seconds_left > 10 * moving.seconds_left


@pytest.mark.parametrize("ends", [[], ended(5)])
def test_nothing_is_said_from_fewer_than_two_jobs(ends: list[tuple[datetime, int]]) -> None:
    assert rate_of(ends, 40, NOON) is None


@pytest.mark.parametrize(
    ("phase", "current", "state", "expected"),
    [
        ("lattice", "measuring", "running", "done"),
        ("measuring", "measuring", "running", "running"),
        ("training", "measuring", "running", "queued"),
        ("measuring", "measuring", "failed", "failed"),
        ("training", "done", "done", "done"),
        ("training", "measuring", "cancelled", "queued"),
    ],
)
def test_what_has_become_of_a_phase(phase: str, current: str, state: str, expected: str) -> None:
    assert phase_state(phase, current, state, {"done": 1}) == expected
