"""Processes that race for the jobs of one queue: each job is claimed and finished once."""

from __future__ import annotations

import pytest

from benchmarks.support.race import Race, fill, race
from latency_service.db.engine import Database
from latency_service.settings import Settings


def raced(database_url: str, processes: int, jobs: int, *, in_two_steps: bool = False) -> Race:
    database = Database(Settings(database_url=database_url).url)
    with database.write() as session:
        agents = fill(session, jobs, processes)
    database.dispose()
    return race(database_url, agents, jobs, in_two_steps=in_two_steps)


def test_processes_claim_each_job_once(database_url: str) -> None:
    outcome = raced(database_url, 3, 120)
    assert outcome.errors == []
    assert outcome.is_exactly_once


@pytest.mark.long
def test_sixteen_processes_claim_each_of_10_000_jobs_once(database_url: str) -> None:
    outcome = raced(database_url, 16, 10_000)
    assert outcome.errors == []
    assert outcome.is_exactly_once


def test_the_race_shows_a_claim_in_two_steps(database_url: str) -> None:
    outcome = raced(database_url, 3, 120, in_two_steps=True)
    assert max(outcome.finished.values()) > 1
