"""Compares the histories of a run with the rows of its database. Pure functions.

Every rule gives the violations that it finds; a correct run has none.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

from benchmarks.support.chaos.history import (
    Acknowledged,
    Event,
    Leased,
    Registered,
    Requested,
    Seen,
    Sent,
    of_kind,
)
from benchmarks.support.chaos.stored import Stored, StoredAttempt

Rule = Literal["lost", "doubled", "unfinished", "unfenced", "reused"]

#: Largest relative difference between a latency that was sent and the one that is stored.
TOLERANCE = 1e-6
#: States of an attempt whose measurements are kept, and whether they count.
_COUNTED = {"done": True, "late": True, "superseded": False}
#: State of an attempt after each answer to its result.
_STATES = {"accepted": {"done"}, "late": {"late"}, "superseded": {"superseded"}}

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True, kw_only=True)
class Violation:
    rule: Rule
    #: What is wrong, with the ids.
    message: str


def check(events: Sequence[Event], stored: Stored) -> list[Violation]:
    """Every violation of a rule that the histories and the rows show."""
    index = _Index(events, stored)
    found: list[tuple[Rule, Iterator[str]]] = [
        ("lost", _lost_results(index)),
        ("lost", _lost_campaigns(index)),
        ("lost", _lost_measurements(index)),
        ("doubled", _doubled_jobs(index)),
        ("doubled", _doubled_architectures(index)),
        ("unfinished", _unfinished(index)),
        ("unfenced", _unfenced_attempts(index)),
        ("unfenced", _unfenced_jobs(index)),
        ("reused", _reused_ids(index)),
    ]
    return [Violation(rule=rule, message=text) for rule, texts in found for text in texts]


class _Index:
    """Events and rows by what they are looked up by."""

    def __init__(self, events: Sequence[Event], stored: Stored) -> None:
        self.stored = stored
        self.registered = of_kind(events, Registered)
        self.leased = of_kind(events, Leased)
        self.acknowledged = of_kind(events, Acknowledged)
        self.requested = of_kind(events, Requested)
        self.seen = of_kind(events, Seen)
        self.sent = {one.attempt_id: one.latency_ms for one in of_kind(events, Sent)}
        self.attempts = {one.id: one for one in stored.attempts}
        self.attempts_of = _grouped(stored.attempts, lambda one: one.job_id)
        self.measurements = {one.id: one for one in stored.measurements}
        self.measured_by = _grouped(stored.measurements, lambda one: one.attempt_id)
        self.measured_for = _grouped(stored.measurements, lambda one: one.job_id)
        self.jobs_of = _grouped(stored.jobs, lambda one: one.campaign_id)


def _lost_results(index: _Index) -> Iterator[str]:
    """An acknowledged result is stored whole, as it was measured."""
    for told in index.acknowledged:
        rows = sorted(index.measured_by[told.attempt_id], key=lambda row: row.position)
        if sorted(row.id for row in rows) != sorted(told.measurement_ids):
            yield f"attempt {told.attempt_id}: acknowledged measurements are not those stored"
        elif not _are_equal(index.sent[told.attempt_id], [row.latency_ms for row in rows]):
            yield f"attempt {told.attempt_id}: the stored latencies are not those sent"


def _are_equal(sent: Sequence[float], stored: Sequence[float]) -> bool:
    return len(sent) == len(stored) and all(
        math.isclose(one, other, rel_tol=TOLERANCE) for one, other in zip(sent, stored, strict=True)
    )


def _lost_campaigns(index: _Index) -> Iterator[str]:
    """An acknowledged campaign is stored, with a job for each of its architectures."""
    for told in index.requested:
        queued = [widths for job in index.jobs_of[told.campaign_id] for widths in job.architectures]
        if sorted(queued) != sorted(told.widths):
            yield f"campaign {told.campaign_id}: its jobs are not what was asked for"


def _lost_measurements(index: _Index) -> Iterator[str]:
    """A measurement that was shown once stays."""
    for told in index.seen:
        gone = [one for one in told.measurement_ids if one not in index.measurements]
        if gone:
            yield f"campaign {told.campaign_id}: {len(gone)} measurements that were shown are gone"


def _doubled_jobs(index: _Index) -> Iterator[str]:
    """The counted measurements of a job are one attempt's, one for each architecture."""
    for job in index.stored.jobs:
        counted = [row for row in index.measured_for[job.id] if row.counted]
        expected = range(len(job.architectures)) if job.state == "done" else range(0)
        if sorted(row.position for row in counted) != list(expected):
            yield f"job {job.id} ({job.state}): not each architecture is counted once"
        elif len({row.attempt_id for row in counted}) > 1:
            yield f"job {job.id}: the measurements of several attempts are counted"


def _doubled_architectures(index: _Index) -> Iterator[str]:
    """A campaign counts each architecture as often as its jobs ask for it."""
    for campaign in index.stored.campaigns:
        jobs = index.jobs_of[campaign.id]
        wanted = Counter(tuple(widths) for job in jobs for widths in job.architectures)
        rows = [row for job in jobs for row in index.measured_for[job.id] if row.counted]
        surplus = Counter(tuple(row.widths) for row in rows) - wanted
        if surplus:
            yield f"campaign {campaign.id}: counted more often than asked for: {dict(surplus)}"


def _unfinished(index: _Index) -> Iterator[str]:
    """Everything ends, and ends well: a kill is no failure of the job."""
    for campaign in index.stored.campaigns:
        if campaign.state != "done":
            yield f"campaign {campaign.id} is {campaign.state}"
    for job in index.stored.jobs:
        if job.state != "done":
            yield f"job {job.id} is {job.state} ({job.failure_kind})"
    for attempt in index.stored.attempts:
        if attempt.state == "open":
            yield f"attempt {attempt.id} is open"


def _unfenced_attempts(index: _Index) -> Iterator[str]:
    """Measurements are kept and counted as the state of their attempt says."""
    for attempt in index.stored.attempts:
        rows = index.measured_by[attempt.id]
        counted = _COUNTED.get(attempt.state)
        if counted is None and rows:
            yield f"attempt {attempt.id} is {attempt.state} and has measurements"
        elif any(row.counted is not counted for row in rows):
            yield f"attempt {attempt.id} is {attempt.state}: wrongly counted"
    for told in index.acknowledged:
        if told.outcome == "repeated" or told.attempt_id not in index.attempts:
            continue
        state = index.attempts[told.attempt_id].state
        if state not in _STATES[told.outcome]:
            yield f"attempt {told.attempt_id} was {told.outcome} and is {state}"


def _unfenced_jobs(index: _Index) -> Iterator[str]:
    """Of a job one attempt counts, and one is open at a time."""
    for job_id, attempts in index.attempts_of.items():
        ordered = sorted(attempts, key=lambda one: one.number)
        if [one.number for one in ordered] != list(range(1, len(ordered) + 1)):
            yield f"job {job_id}: its attempts are not numbered from 1"
        if sum(_COUNTED.get(one.state, False) for one in ordered) > 1:
            yield f"job {job_id}: several attempts count"
        for earlier, later in pairwise(ordered):
            if _overlap(earlier, later):
                yield f"job {job_id}: attempts {earlier.id} and {later.id} overlap"


def _overlap(earlier: StoredAttempt, later: StoredAttempt) -> bool:
    """Whether an attempt was leased before the one before it had ended.

    A late or superseded attempt had ended before its result came, which is what its row shows.
    """
    if earlier.state in ("late", "superseded"):
        return False
    return earlier.finished_at is None or later.leased_at < earlier.finished_at


def _reused_ids(index: _Index) -> Iterator[str]:
    """An id means one thing for ever."""
    yield from _ambiguous("agent", ((one.agent_id, one.agent) for one in index.registered))
    yield from _ambiguous(
        "attempt", ((one.attempt_id, (one.agent, one.job_id, one.number)) for one in index.leased)
    )
    yield from _ambiguous(
        "measurement",
        ((row, one.attempt_id) for one in index.acknowledged for row in one.measurement_ids),
    )
    for one in index.leased:
        row = index.attempts.get(one.attempt_id)
        if row is None or (row.job_id, row.number) != (one.job_id, one.number):
            yield f"attempt {one.attempt_id} is not the one that was leased"


def _ambiguous(noun: str, meanings: Iterable[tuple[str, object]]) -> Iterator[str]:
    """Ids that were given out with different meanings."""
    known: dict[str, object] = {}
    for identifier, meaning in meanings:
        if known.setdefault(identifier, meaning) != meaning:
            yield f"{noun} {identifier} is {known[identifier]} and {meaning}"


def _grouped(rows: Iterable[T], key: Callable[[T], K]) -> defaultdict[K, list[T]]:
    groups: defaultdict[K, list[T]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups
