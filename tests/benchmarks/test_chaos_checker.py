"""The checker of chaos runs finds every kind of violation that is planted in a correct run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from benchmarks.support.chaos.checker import Rule, check
from benchmarks.support.chaos.history import (
    Acknowledged,
    Event,
    History,
    Leased,
    Refused,
    Registered,
    Requested,
    Seen,
    Sent,
    read,
)
from benchmarks.support.chaos.stored import (
    Stored,
    StoredAttempt,
    StoredCampaign,
    StoredJob,
    StoredMeasurement,
)

T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)
WIDTHS = [[8], [16]]


@dataclass(kw_only=True)
class Run:
    """What a run left behind."""

    events: list[Event]
    stored: Stored

    def violations(self) -> set[Rule]:
        return {found.rule for found in check(self.events, self.stored)}


def attempt(job: str, number: int, state: str, *, agent: str) -> StoredAttempt:
    """Attempt `number` of a job, leased for ten seconds at most."""
    leased_at = START + timedelta(seconds=10 * number)
    return StoredAttempt(
        id=f"{job}-{number}",
        job_id=job,
        agent_id=f"id-{agent}",
        number=number,
        state=state,
        leased_at=leased_at,
        finished_at=leased_at + timedelta(seconds=10 if state != "late" else 15),
    )


def measured(attempt_id: str, *, counted: bool) -> list[StoredMeasurement]:
    job_id = attempt_id.partition("-")[0]
    return [
        StoredMeasurement(
            id=f"{attempt_id}-m{position}",
            job_id=job_id,
            attempt_id=attempt_id,
            position=position,
            widths=widths,
            latency_ms=latency_of(attempt_id)[position],
            counted=counted,
        )
        for position, widths in enumerate(WIDTHS)
    ]


def latency_of(attempt_id: str) -> list[float]:
    number = float(attempt_id.partition("-")[2])
    return [number, number + 0.25]


def delivered(attempt_id: str, agent: str, outcome: str) -> list[Event]:
    ids = [f"{attempt_id}-m{position}" for position in range(len(WIDTHS))]
    return [
        Sent(agent=agent, attempt_id=attempt_id, latency_ms=latency_of(attempt_id)),
        Acknowledged(agent=agent, attempt_id=attempt_id, outcome=outcome, measurement_ids=ids),
    ]


def correct() -> Run:
    """One job was done at the second attempt, one was superseded, one came late."""
    jobs = ["one", "two", "three"]
    leased = [("a", "one", 1), ("b", "one", 2), ("a", "two", 1), ("b", "two", 2), ("b", "three", 1)]
    states = ["expired", "done", "superseded", "done", "late"]
    events: list[Event] = [
        Registered(agent="a", agent_id="id-a"),
        Registered(agent="b", agent_id="id-b"),
        Registered(agent="a", agent_id="id-a"),
        Requested(campaign_id="campaign", widths=WIDTHS * 3),
        *(
            Leased(agent=agent, attempt_id=f"{job}-{number}", job_id=job, number=number)
            for agent, job, number in leased
        ),
        *delivered("one-2", "b", "accepted"),
        *delivered("one-2", "b", "repeated"),
        *delivered("two-2", "b", "accepted"),
        *delivered("two-1", "a", "superseded"),
        *delivered("three-1", "b", "late"),
        Seen(campaign_id="campaign", measurement_ids=["one-2-m0", "one-2-m1"]),
    ]
    stored = Stored(
        campaigns=[StoredCampaign(id="campaign", state="done")],
        jobs=[
            StoredJob(id=job, campaign_id="campaign", state="done", architectures=WIDTHS)
            for job in jobs
        ],
        attempts=[
            attempt(job, number, state, agent=agent)
            for (agent, job, number), state in zip(leased, states, strict=True)
        ],
        measurements=[
            *measured("one-2", counted=True),
            *measured("two-2", counted=True),
            *measured("two-1", counted=False),
            *measured("three-1", counted=True),
        ],
    )
    return Run(events=events, stored=stored)


def changed(rows: Sequence[T], row_id: str, **fields: object) -> list[T]:
    """The rows, one of them with other values."""
    assert any(row.id == row_id for row in rows)  # type: ignore[attr-defined]
    return [
        replace(row, **fields) if row.id == row_id else row  # type: ignore[attr-defined,type-var]
        for row in rows
    ]


def without(rows: Sequence[T], row_id: str) -> list[T]:
    left = [row for row in rows if row.id != row_id]  # type: ignore[attr-defined]
    assert len(left) == len(rows) - 1
    return left


def drop_a_measurement(run: Run) -> None:
    run.stored = replace(run.stored, measurements=without(run.stored.measurements, "three-1-m1"))


def drop_an_uncounted_measurement(run: Run) -> None:
    run.stored = replace(run.stored, measurements=without(run.stored.measurements, "two-1-m0"))


def alter_a_latency(run: Run) -> None:
    rows = changed(run.stored.measurements, "one-2-m0", latency_ms=2.01)
    run.stored = replace(run.stored, measurements=rows)


def drop_a_job(run: Run) -> None:
    run.stored = replace(run.stored, jobs=without(run.stored.jobs, "three"))


def drop_what_was_shown(run: Run) -> None:
    run.events.append(Seen(campaign_id="campaign", measurement_ids=["one-1-m0"]))


def count_a_superseded_result(run: Run) -> None:
    rows = changed(run.stored.measurements, "two-1-m0", counted=True)
    run.stored = replace(run.stored, measurements=rows)


def count_an_architecture_twice(run: Run) -> None:
    again = replace(run.stored.measurements[0], id="again", position=1)
    kept = without(run.stored.measurements, "one-2-m1")
    run.stored = replace(run.stored, measurements=[*kept, again])


def leave_a_job_open(run: Run) -> None:
    jobs = changed(run.stored.jobs, "three", state="leased")
    attempts = changed(run.stored.attempts, "three-1", state="open", finished_at=None)
    rows = [row for row in run.stored.measurements if row.job_id != "three"]
    run.events = [event for event in run.events if getattr(event, "attempt_id", "") != "three-1"]
    run.stored = replace(run.stored, jobs=jobs, attempts=attempts, measurements=rows)


def fail_a_job(run: Run) -> None:
    leave_a_job_open(run)
    jobs = changed(run.stored.jobs, "three", state="failed", failure_kind="agent_lost")
    attempts = changed(run.stored.attempts, "three-1", state="expired", finished_at=START)
    run.stored = replace(run.stored, jobs=jobs, attempts=attempts)


def leave_a_campaign_running(run: Run) -> None:
    run.stored = replace(
        run.stored, campaigns=changed(run.stored.campaigns, "campaign", state="running")
    )


def let_a_fenced_attempt_store(run: Run) -> None:
    extra = [replace(row, counted=False) for row in measured("one-1", counted=False)]
    run.stored = replace(run.stored, measurements=[*run.stored.measurements, *extra])


def let_a_fenced_attempt_win(run: Run) -> None:
    attempts = changed(run.stored.attempts, "two-1", state="late")
    attempts = changed(attempts, "two-2", state="superseded")
    rows = [replace(row, counted=row.attempt_id != "two-2") for row in run.stored.measurements]
    run.stored = replace(run.stored, attempts=attempts, measurements=rows)


def let_two_attempts_overlap(run: Run) -> None:
    later = START + timedelta(seconds=25)
    attempts = changed(run.stored.attempts, "one-1", finished_at=later)
    run.stored = replace(run.stored, attempts=attempts)


def skip_a_number(run: Run) -> None:
    attempts = without(run.stored.attempts, "one-1")
    run.events = [event for event in run.events if getattr(event, "attempt_id", "") != "one-1"]
    run.stored = replace(run.stored, attempts=attempts)


def give_an_agent_id_twice(run: Run) -> None:
    run.events.append(Registered(agent="c", agent_id="id-a"))


def lease_an_attempt_twice(run: Run) -> None:
    run.events.append(Leased(agent="a", attempt_id="one-2", job_id="one", number=2))


def lease_what_is_not_stored(run: Run) -> None:
    run.events.append(Leased(agent="a", attempt_id="four-1", job_id="four", number=1))


PLANTED: list[tuple[Callable[[Run], None], set[Rule]]] = [
    (drop_a_measurement, {"lost", "doubled"}),
    (drop_an_uncounted_measurement, {"lost"}),
    (alter_a_latency, {"lost"}),
    (drop_a_job, {"lost"}),
    (drop_what_was_shown, {"lost"}),
    (count_a_superseded_result, {"doubled", "unfenced"}),
    (count_an_architecture_twice, {"lost", "doubled"}),
    (leave_a_job_open, {"unfinished"}),
    (fail_a_job, {"unfinished"}),
    (leave_a_campaign_running, {"unfinished"}),
    (let_a_fenced_attempt_store, {"unfenced"}),
    (let_a_fenced_attempt_win, {"unfenced"}),
    (let_two_attempts_overlap, {"unfenced"}),
    (skip_a_number, {"unfenced"}),
    (give_an_agent_id_twice, {"reused"}),
    (lease_an_attempt_twice, {"reused"}),
    (lease_what_is_not_stored, {"reused"}),
]


def test_a_correct_run_has_no_violation() -> None:
    run = correct()
    assert check(run.events, run.stored) == []


@pytest.mark.parametrize(
    ("plant", "rules"), PLANTED, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_planted_violation_is_found(plant: Callable[[Run], None], rules: set[Rule]) -> None:
    run = correct()
    plant(run)
    assert run.violations() == rules


def test_every_rule_is_planted() -> None:
    assert set().union(*(rules for _, rules in PLANTED)) == set(Rule.__args__)  # type: ignore[attr-defined]


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    events = correct().events
    events.append(Refused(agent="a", attempt_id="one-1", status=409))
    history = History(tmp_path / "all.jsonl")
    for event in events:
        history.write(event)
    history.close()
    assert read(tmp_path) == events
