"""Columns that lists have in common, so that they are called and linked alike everywhere. Heads are
in lower case, with the unit behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from latency_service.dashboard.tables import Column

Row = TypeVar("Row")
#: A latency with the ends of its 95 % interval, ms.
Latency = tuple[float, float | None, float | None]


def device(of: Callable[[Row], str | None], head: str = "device") -> Column[Row]:
    """Name of a device. None stands for a trainer, which has no page."""
    return Column(
        head=head,
        cell=lambda row: of(row) or "trainer",
        link=lambda row: None if (name := of(row)) is None else ("device", {"name": name}),
    )


def campaign(of: Callable[[Row], str | None]) -> Column[Row]:
    """Id of a campaign, where there is one."""
    return Column(
        head="campaign",
        cell=of,
        kind="code",
        link=lambda row: (
            None if (found := of(row)) is None else ("campaign", {"campaign_id": found})
        ),
    )


def job(
    job_id: Callable[[Row], str], cell: Callable[[Row], str | None], **more: Any
) -> Column[Row]:
    """What leads to the page of a job."""
    return Column(
        **{"head": "job", **more}, cell=cell, link=lambda row: ("job", {"job_id": job_id(row)})
    )


def latency(of: Callable[[Row], Latency | None], **more: Any) -> Column[Row]:
    """A measured latency with its interval."""
    usual = {"meaning": "median over the rounds, with its 95 % interval"}
    return Column(
        head="median [95 % interval]", unit="ms", cell=of, kind="interval", **{**usual, **more}
    )
