"""Progress of work that takes longer than two seconds: bars in a terminal, lines in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from latency_service.core.units import format_duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID

#: Seconds between two lines of a log.
LINE_SECONDS = 10.0
#: Seconds of a phase from which on its rate is worth telling.
_RATE_SECONDS = 2.0
#: Narrowest terminal that has room for figures and units, and for the bar itself.
_FIGURES_WIDTH = 60
_BAR_WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far a phase of some work is."""

    #: Name of the activity.
    phase: str
    done: int = 0
    #: Total count; 0 while it is unknown.
    total: int = 0
    #: Unit of the counts, such as "architectures" or "batches".
    unit: str = ""
    #: Figures to show next to the bar, each with its unit in the name or the value.
    figures: Mapping[str, str] = field(default_factory=dict)


def unseen(step: Step) -> None:
    """Takes a step that nobody is shown."""


#: Tells how many things are done, and of how many; of 0 while that is unknown.
Tell = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """A `Tell` that nobody listens to."""


class ProgressDisplay:
    """Bars, one for each phase: name, count, time passed and left, and figures.

    Where the output is no terminal, a line says so when a phase begins and ends and at least every
    ten seconds between, whether or not anything is reported meanwhile.

    A context manager, and a callback that shows a `Step`.

    Args:
        console: Where to draw; standard error by default.
        quiet: Whether to show nothing.
        joins: Whether the work may have begun before: the rate is then that of what is seen.
        patience_seconds: Seconds in which nothing is shown: shorter work needs no progress.
        line_seconds: Seconds between two lines.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        quiet: bool = False,
        joins: bool = False,
        patience_seconds: float = 0.0,
        line_seconds: float = LINE_SECONDS,
    ) -> None:
        from rich.console import Console

        self._console = Console(quiet=True) if quiet else console or Console(stderr=True)
        self._is_live = self._console.is_terminal
        self._is_wide = self._console.width >= _FIGURES_WIDTH
        self._progress = self._bars()
        self._task: TaskID | None = None
        self._last: Step | None = None
        self._joins = joins
        self._first_done = 0
        self._begun = time.monotonic()
        self._line_seconds = line_seconds
        self._ended = threading.Event()
        self._patience_seconds = patience_seconds
        self._is_shown = patience_seconds == 0
        self._watch = threading.Thread(target=self._watch_time, daemon=True)

    def __enter__(self) -> Self:
        if self._is_live and self._is_shown:
            self._progress.start()
        self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._watch.join()
        if kind is None:
            self._finish()
        if self._is_live:
            self._progress.stop()

    def __call__(self, step: Step) -> None:
        """Show a step; one of another phase completes the present one."""
        begins = self._last is None or step.phase != self._last.phase
        if begins:
            self._finish()
            # a phase that is repeated gets a new bar
            self._task = self._progress.add_task(step.phase, total=None, counts="", figures="")
            self._begun = time.monotonic()
            self._first_done = step.done if self._joins else 0
        self._last = step
        if self._task is not None:
            self._progress.update(
                self._task,
                completed=step.done,
                total=step.total or None,
                counts=_counts(step) if self._is_wide else _counts(replace(step, unit="")),
                figures=_figures(step),
            )
        if begins and self._is_shown and not self._is_live:
            self._say(self._line(step))

    def extras(self) -> str:
        """What the lines of a log say at their end."""
        return ""

    def _bars(self) -> Progress:
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.table import Column

        wraps = Column(overflow="fold", no_wrap=False)
        figures = TextColumn(
            "{task.fields[figures]}", style="dim", table_column=wraps, markup=False
        )
        columns: list[ProgressColumn] = [
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[counts]}", justify="right", markup=False),
            self._left_column(),
        ]
        if self._is_wide:
            columns[3:3] = [TimeElapsedColumn()]
            columns.append(figures)
        if self._console.width >= _BAR_WIDTH:
            columns.insert(2, BarColumn(bar_width=20))
        return Progress(*columns, console=self._console)

    def _left_column(self) -> ProgressColumn:
        from rich.progress import ProgressColumn
        from rich.table import Column
        from rich.text import Text

        display = self

        class Left(ProgressColumn):
            def render(self, task: object) -> Text:
                is_present = getattr(task, "id", None) == display._task
                return Text(display._left() if is_present else "")

        return Left(table_column=Column(no_wrap=True))

    def _watch_time(self) -> None:
        if not self._is_shown and not self._ended.wait(self._patience_seconds):
            self._is_shown = True
            if self._is_live:
                self._progress.start()
            elif self._last is not None:
                self._say(self._line(self._last))
        if not self._is_live:
            self._write_lines()

    def _write_lines(self) -> None:
        while not self._ended.wait(self._line_seconds):
            if self._last is not None:
                self._say(self._line(self._last))

    def _line(self, step: Step) -> str:
        seconds = self._seconds()
        times = [format_duration(seconds) if seconds >= 1 else "", self._left()]
        spent = ", ".join(part for part in times if part)
        parts = [step.phase, _counts(step), _figures(step), spent, self.extras()]
        return "  ".join(part for part in parts if part)

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _seconds(self) -> float:
        return time.monotonic() - self._begun

    def _left(self) -> str:
        """Time left at the rate since this phase was first seen; empty while that is unknown."""
        step = self._last
        if self._seconds() < min(_RATE_SECONDS, self._line_seconds):
            return ""
        if step is None or step.done <= self._first_done or step.done >= step.total:
            return ""
        rate = (step.done - self._first_done) / self._seconds()
        return f"{format_duration((step.total - step.done) / rate)} left"

    def _finish(self) -> None:
        last = self._last
        if last is None or self._task is None:
            return
        total = last.total or 1
        counts = f"{total} {last.unit}" if last.unit and last.total else ""
        self._progress.update(self._task, completed=total, total=total, counts=counts)
        if self._is_shown and not self._is_live:
            of = f" ({counts})" if counts else ""
            self._say(f"{last.phase}: done in {format_duration(self._seconds())}{of}")


def _counts(step: Step) -> str:
    return f"{step.done}/{step.total} {step.unit}".strip() if step.total else ""


def _figures(step: Step) -> str:
    return "  ".join(f"{name} {value}".strip() for name, value in step.figures.items())
