"""Following a campaign until it ends."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

from latency_service.cli import common
from latency_service.core import exit_codes
from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.output import Output, report_error
from latency_service.core.terminal.progress import ProgressDisplay, Step
from latency_service.core.units import format_duration
from latency_service.core.waiting import polled

if TYPE_CHECKING:
    from latency_service.campaigns.schemas import CampaignView, RoundView
    from latency_service.core.client import Client
    from latency_service.jobs.schemas import QueuePlace

POLL_SECONDS = 1.0
#: How long a service that does not answer is waited for: it may be restarting.
PATIENCE_SECONDS = 60.0
_PHASES = {"lattice": "finding the lattice", "training": "training the predictor"}

#: A campaign in a list, and in the lines of `campaigns watch --csv`.
COLUMNS: list[Column[CampaignView]] = [
    Column("campaign", "id"),
    Column("device", "device"),
    Column("state", "state"),
    Column("phase", "phase"),
    Column("measured", "architectures_measured"),
    Column("of", "architectures_total"),
    Column("failed jobs", "jobs_failed", spare=True),
    Column("purpose", "purpose", spare=True),
    Column("created", "created_at", spare=True),
    Column("space", "space_id", length=12, spare=True),
    Column("predictor", "predictor_id", spare=True),
]


def watch_campaign(server: str, token: str | None, campaign: str, output: Output) -> None:
    """Show a campaign until it ends.

    Raises:
        typer.Exit: with 1, when it failed or was cancelled.
        ApiError: the service refuses, or has not answered for `PATIENCE_SECONDS`.
        CommandError: Ctrl-C ended the following.
    """
    with common.connect(server, token) as client:
        try:
            last = _follow(changes(client, campaign), output)
        except KeyboardInterrupt as error:
            raise common.interrupted(
                f"the campaign {campaign}", f"latency-service campaigns watch {campaign}"
            ) from error
    if output.is_text:
        _conclude(last)
    if last.state != "done":
        raise typer.Exit(exit_codes.FAILED)


def _follow(views: Iterator[CampaignView], output: Output) -> CampaignView:
    shown = _drawn(views) if output.is_text else output.stream(views, COLUMNS)
    return deque(shown, maxlen=1).pop()


def _drawn(views: Iterator[CampaignView]) -> Iterator[CampaignView]:
    with ProgressDisplay(joins=True) as display:
        for view in views:
            if view.state == "running":
                display(step_of(view))
            yield view


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


def step_of(view: CampaignView) -> Step:
    """The phase and its counts, failed jobs, the place in the queue and the predictor's error so
    far.
    """
    figures = {"jobs": f"{view.jobs_done}/{view.jobs_total}"}
    if view.jobs_failed:
        figures["failed"] = f"{view.jobs_failed} jobs"
    if view.queue:
        figures["queue"] = describe_place(view.queue)
    if view.rounds:
        figures[""] = error_summary(view.rounds[-1])
    if view.goal_percent:
        figures["goal"] = f"{view.goal_percent:g} %"
    return Step(
        phase=_PHASES.get(view.phase, view.phase),
        done=view.architectures_measured,
        total=view.architectures_total,
        unit="architectures",
        figures=figures,
    )


def describe_place(place: QueuePlace) -> str:
    """Jobs ahead in the queue, and the time until the end where it is known."""
    words = f"{place.jobs_ahead} ahead"
    if place.expected_seconds is None:
        return words
    return f"{words}, about {format_duration(place.expected_seconds)}"


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
        report_error(
            f"The campaign is {view.state}.", view.failure or "", "campaign", as_json=False
        )
