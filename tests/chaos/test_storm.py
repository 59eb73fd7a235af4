"""A short run of the benchmark `chaos`: kills, restarts and a broken network lose nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.support.chaos.checker import check
from benchmarks.support.chaos.storm import Outcome, Plan, run
from benchmarks.support.databases import DIALECTS, Dialect


def plant_a_lost_result(outcome: Outcome) -> set[str]:
    """Rules that the checker finds broken once the last counted measurement is gone."""
    rows = outcome.stored.measurements
    lost = next(row for row in reversed(rows) if row.counted)
    stored = replace(outcome.stored, measurements=[row for row in rows if row is not lost])
    return {found.rule for found in check(outcome.events, stored)}


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_storm_loses_nothing_and_counts_nothing_twice(dialect: Dialect, tmp_path: Path) -> None:
    plan = Plan(dialect=dialect, seed=1, service_kills=3, agent_kills=3, database_restarts=1)
    outcome = run(plan, tmp_path)
    assert outcome.violations == []
    assert outcome.unexpected == []
    assert outcome.undelivered == 0
    assert outcome.statuses.get("500", 0) == 0
    assert outcome.faults
    assert len(outcome.stored.jobs) >= 10
    assert "doubled" in plant_a_lost_result(outcome)
