"""Progress of long-running work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latency_service.core.terminal.progress import Step


@dataclass(frozen=True, kw_only=True)
class ProgressEvent(Step):
    """One report of progress."""

    #: Entries of the training's history since the last event, or those of a checkpoint from which
    #: the training continues.
    entries: Sequence[Mapping[str, Any]] = ()


#: Callback for progress, called often and from the working thread; it must return quickly.
Progress = Callable[[ProgressEvent], None]


def silent(_event: ProgressEvent) -> None:
    """Report nothing."""
