"""What each participant of a run asked for and was told, as lines of JSON on the disk.

A line is written by one system call, so that a participant that is killed leaves whole lines.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar, get_args


@dataclass(frozen=True, kw_only=True)
class Registered:
    """The service gave an agent an id."""

    #: Name of the agent; it keeps one state folder.
    agent: str
    agent_id: str


@dataclass(frozen=True, kw_only=True)
class Leased:
    """The service gave an agent an attempt at a job."""

    agent: str
    attempt_id: str
    job_id: str
    number: int


@dataclass(frozen=True, kw_only=True)
class Sent:
    """An agent is about to send a result, for the first time or again."""

    agent: str
    attempt_id: str
    #: Measured latencies in the order of the lease, ms.
    latency_ms: list[float]


@dataclass(frozen=True, kw_only=True)
class Acknowledged:
    """The service answered that it has the result."""

    agent: str
    attempt_id: str
    outcome: str
    measurement_ids: list[str]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The service answered that it does not take the result."""

    agent: str
    attempt_id: str
    status: int


@dataclass(frozen=True, kw_only=True)
class Requested:
    """The service answered that it has created a campaign."""

    campaign_id: str
    widths: list[list[int]]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The service showed measurements of a campaign."""

    campaign_id: str
    measurement_ids: list[str]


Event = Registered | Leased | Sent | Acknowledged | Refused | Requested | Seen
E = TypeVar("E", bound=Event)

_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


class History:
    """The history of one participant, appended to a file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: Event) -> None:
        """Append an event; it is on the disk when this returns."""
        line = json.dumps({"event": type(event).__name__, **asdict(event)}) + "\n"
        os.write(self._file, line.encode())
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read(folder: Path) -> list[Event]:
    """The events of all participants that have their history in `folder`."""
    return [event for path in sorted(folder.glob("*.jsonl")) for event in _events(path)]


def of_kind(events: Iterable[Event], kind: type[E]) -> list[E]:
    """The events of one kind, in their order."""
    return [event for event in events if isinstance(event, kind)]


def _events(path: Path) -> Iterator[Event]:
    for line in path.read_text().splitlines():
        fields = json.loads(line)
        yield _KINDS[fields.pop("event")](**fields)
