"""How long-running parts tell where they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Step:
    """One report of progress."""

    #: what is being done, as a user would say it
    phase: str
    done: int
    #: 0 when it is not known yet
    total: int
    #: what is counted: "architectures", "batches" ...
    unit: str = ""
    #: figures worth showing beside the bar, each with its unit in the name or the value
    figures: Mapping[str, str] = field(default_factory=dict)


#: Called often and from the thread that does the work; must be quick.
Progress = Callable[[Step], None]


def silent(_step: Step) -> None:
    """Report nothing."""
