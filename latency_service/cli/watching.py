"""Following a campaign until it ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from latency_service.campaigns.schemas import CampaignView, RoundView
from latency_service.cli import common
from latency_service.core import exit_codes
from latency_service.core.waiting import polled
from latency_service.jobs.schemas import QueuePlace

if TYPE_CHECKING:
    from latency_service.core.client import Client

POLL_SECONDS = 1.0
#: How long a service that does not answer is waited for: it may be restarting.
PATIENCE_SECONDS = 60.0


def watch_campaign(server: str, token: str | None, campaign: str, as_json: bool) -> None:
    """Show a campaign until it ends.

    Raises:
        typer.Exit: with 1, when it failed or was cancelled.
        ApiError: the service refuses, or has not answered for `PATIENCE_SECONDS`.
    """
    with common.connect(server, token) as client:
        views = changes(client, campaign)
        last = _lines(views) if as_json else _bar(views)
    if last is not None and not as_json:
        _conclude(last)
    if last is None or last.state != "done":
        raise typer.Exit(exit_codes.FAILED)


def changes(
    client: Client,
    campaign: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[CampaignView]:
    """The campaign as it is now and after each change, until it ends."""
    previous: CampaignView | None = None
    views = polled(
        lambda: client.campaign(campaign),
        pause_seconds=POLL_SECONDS,
        patience_seconds=PATIENCE_SECONDS,
        sleep=sleep,
        clock=clock,
    )
    for view in views:
        if view != previous:
            yield view
        previous = view
        if view.state != "running":
            return


def _lines(views: Iterator[CampaignView]) -> CampaignView | None:
    last = None
    for last in views:
        common.print_line(last)
    return last


def _bar(views: Iterator[CampaignView]) -> CampaignView | None:
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        return _plain(views, console)
    last = None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("architectures"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("waiting", total=None)
        for last in views:
            total = last.architectures_total
            measured = last.architectures_measured
            progress.update(
                task, description=describe(last), total=total or None, completed=measured
            )
    return last


def _plain(views: Iterator[CampaignView], console: Console) -> CampaignView | None:
    last = None
    for last in views:
        counts = f"{last.architectures_measured}/{last.architectures_total} architectures"
        console.print(f"{describe(last)}: {counts}", markup=False, highlight=False, soft_wrap=True)
    return last


def describe(view: CampaignView) -> str:
    """The phase in words, the predictor's error so far, and failed jobs when there are any."""
    phase = {"lattice": "finding the lattice", "training": "training the predictor"}.get(
        view.phase, view.phase
    )
    failed = f", {view.jobs_failed} jobs failed" if view.jobs_failed else ""
    errors = f"; {error_summary(view.rounds[-1])}" if view.rounds else ""
    goal = f", goal {view.goal_percent:g} %" if view.goal_percent else ""
    place = f", {describe_place(view.queue)}" if view.queue else ""
    return f"{phase} ({view.jobs_done}/{view.jobs_total} jobs{failed}{place}){errors}{goal}"


def describe_place(place: QueuePlace) -> str:
    """Jobs ahead in the queue, and the time until the end in minutes where it is known."""
    words = f"{place.jobs_ahead} ahead"
    if place.expected_seconds is None:
        return words
    return f"{words}, about {max(1, round(place.expected_seconds / 60))} min"


def error_summary(one: RoundView) -> str:
    """Error of one training, its upper confidence bound and the repeat difference beside it."""
    floor = one.floor_percent
    repeated = "" if floor is None else f", repeats differ by {floor:.2g} %"
    return (
        f"held-out error {one.error_percent:.2g} %, upper confidence bound "
        f"{one.error_at_most_percent:.2g} %{repeated}"
    )


def _conclude(view: CampaignView) -> None:
    if view.state == "done":
        predictor = view.predictor_id
        if view.rounds:
            print(error_summary(view.rounds[-1]))
        if view.goal_met is False:
            print(f"The goal of {view.goal_percent:g} % is not shown to be reached.")
        print(f"done: latency-service predictors show {predictor}" if predictor else "done")
    else:
        common.report_error(
            f"The campaign is {view.state}.", view.failure or "", "campaign", as_json=False
        )
