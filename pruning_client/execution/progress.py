"""Reports of progress from long-running parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ProgressEvent:
    """One report of progress."""

    #: activity, as a user would name it
    phase: str
    done: int
    #: 0 while it is unknown
    total: int
    #: counted things: "architectures", "batches" ...
    unit: str = ""
    #: figures worth showing next to the bar, each with its unit in the name or the value
    figures: Mapping[str, str] = field(default_factory=dict)


#: Called often and from the thread that does the work; must be quick.
Progress = Callable[[ProgressEvent], None]


def silent(_event: ProgressEvent) -> None:
    """Report nothing."""
