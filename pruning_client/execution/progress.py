"""Progress of long-running work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ProgressEvent:
    """One report of progress."""

    #: Name of the activity.
    phase: str
    done: int
    #: Total count; 0 while it is unknown.
    total: int
    #: Unit of the counts, such as "architectures" or "batches".
    unit: str = ""
    #: Figures to show next to the bar, each with its unit in the name or the value.
    figures: Mapping[str, str] = field(default_factory=dict)
    #: Entries of the training's history since the last event, or those of a checkpoint from which
    #: the training continues.
    entries: Sequence[Mapping[str, Any]] = ()


#: Callback for progress, called often and from the working thread; it must return quickly.
Progress = Callable[[ProgressEvent], None]


def silent(_event: ProgressEvent) -> None:
    """Report nothing."""
