"""What a device did: its attempts as spans of time.

Stored are the lease and the end of an attempt, the time of its measuring process and the part of it
inside timed runs. Where these lay within the attempt is not: they are drawn in the order in which
they happen, fetching first, then warm-up and canaries, then timed runs, delivery at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, Field

from latency_service.dashboard import figures
from latency_service.dashboard.figures import FigureJson
from latency_service.dashboard.palette import BLUE, GREEN, ORANGE, SOFT, VERMILLION
from latency_service.dashboard.rows import AnyRow

FETCHING = "fetch, start, deliver"
WARMING = "warm-up and canaries"
TIMING = "timed runs"
TRAINING = "under way"
FAILING = "failed"
#: Rows of the figure from its top, and their colours.
LANES = {
    FETCHING: SOFT,
    WARMING: ORANGE,
    TIMING: GREEN,
    TRAINING: BLUE,
    FAILING: VERMILLION,
}
#: Attempts drawn at most: three spans each.
DRAWN = 600


class AttemptRow(BaseModel):
    """One attempt of a device."""

    id: str
    job_id: str
    kind: str
    campaign_id: str | None
    state: str
    leased_at: datetime
    finished_at: datetime | None
    wall_seconds: float | None = Field(description="of the measuring process")
    timed_seconds: float | None = Field(description="of it, inside timed runs")
    failure_kind: str | None

    @property
    def seconds(self) -> float | None:
        """From lease to end, s."""
        if self.finished_at is None:
            return None
        return (self.finished_at - self.leased_at).total_seconds()


class Span(BaseModel):
    """A part of an attempt."""

    attempt_id: str
    lane: str
    begin: datetime
    seconds: float
    what: str


def attempt_rows(rows: Sequence[AnyRow]) -> list[AttemptRow]:
    return [attempt_row(row) for row in rows]


def attempt_row(row: AnyRow) -> AttemptRow:
    names = tuple(AttemptRow.model_fields)
    return AttemptRow.model_validate(dict(zip(names, row, strict=True)))


def spans(attempts: Sequence[AttemptRow], now: datetime) -> list[Span]:
    """The spans of all attempts, in their order."""
    return [span for attempt in attempts for span in _spans_of(attempt, now)]


def busy_share(attempts: Sequence[AttemptRow], begin: datetime, now: datetime) -> float:
    """Share of the time since `begin` in which the device had an attempt."""
    whole = (now - begin).total_seconds()
    held = sum(
        max(0.0, ((one.finished_at or now) - max(one.leased_at, begin)).total_seconds())
        for one in attempts
    )
    return min(1.0, held / whole) if whole > 0 else 0.0


def title_of(attempts: Sequence[AttemptRow], begin: datetime, now: datetime) -> str:
    """What the figure shows, in one sentence."""
    if not attempts:
        return "Idle all the time"
    failed = sum(one.state in ("failed", "expired") for one in attempts)
    ending = f"{failed} of {len(attempts)} attempts failed" if failed else "no attempt failed"
    return f"At work {100 * busy_share(attempts, begin, now):.0f} % of the time; {ending}"


def summary_of(drawn: int, total: int) -> str:
    """What the figure draws."""
    which = f"The newest {drawn} of {total} attempts. " if drawn < total else ""
    return which + (
        "Each bar is a part of an attempt, in the order in which they happen; the gaps are idle "
        "time. Durations are stored, places within an attempt are not."
    )


def figure_of(parts: Sequence[Span], begin: datetime, now: datetime) -> FigureJson:
    """Bars over time, one row for each kind of work."""
    traces = [_bars(lane, [one for one in parts if one.lane == lane]) for lane in LANES]
    return figures.figure(
        [trace for trace in traces if trace["x"]],
        height=280,
        barmode="overlay",
        bargap=0.35,
        showlegend=False,
        margin={"l": 20, "r": 16, "t": 12, "b": 48},
        xaxis=figures.axis("Time", "UTC", type="date", range=[_ms(begin), _ms(now)]),
        yaxis={
            "type": "category",
            "categoryorder": "array",
            "categoryarray": list(reversed(LANES)),
            "range": [-0.5, len(LANES) - 0.5],
            "fixedrange": True,
            "automargin": True,
        },
    )


def _spans_of(attempt: AttemptRow, now: datetime) -> Iterator[Span]:
    end = attempt.finished_at or now
    whole = max(0.0, (end - attempt.leased_at).total_seconds())
    if attempt.wall_seconds is None:
        lane = FAILING if attempt.state in ("failed", "expired", "cancelled") else TRAINING
        yield _span(attempt, lane, attempt.leased_at, whole)
        return
    wall = min(attempt.wall_seconds, whole)
    timed = min(attempt.timed_seconds or 0.0, wall)
    start = end - timedelta(seconds=wall)
    yield _span(attempt, FETCHING, attempt.leased_at, whole - wall)
    yield _span(attempt, WARMING, start, wall - timed)
    yield _span(attempt, TIMING, start + timedelta(seconds=wall - timed), timed)


def _span(attempt: AttemptRow, lane: str, begin: datetime, seconds: float) -> Span:
    what = f"{attempt.kind}: {attempt.failure_kind or attempt.state}"
    return Span(attempt_id=attempt.id, lane=lane, begin=begin, seconds=seconds, what=what)


def _bars(lane: str, parts: Sequence[Span]) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": lane,
        "x": [round(1000 * part.seconds) for part in parts],
        "base": [_ms(part.begin) for part in parts],
        "y": [lane] * len(parts),
        "text": [f"{part.what}, {part.seconds:.1f} s" for part in parts],
        "textposition": "none",
        "hovertemplate": "%{text}<extra>%{y}</extra>",
        "marker": {"color": LANES[lane], "line": {"width": 0}},
    }


def _ms(moment: datetime) -> float:
    """Plotly's own time: milliseconds since 1970."""
    return round(1000 * moment.timestamp())
