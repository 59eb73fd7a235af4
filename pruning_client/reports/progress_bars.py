"""Progress in a terminal, or as lines of a log."""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psutil
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from pruning_client.execution.progress import ProgressEvent
from pruning_client.reports.notebook_cell import NotebookCell
from pruning_client.reports.terminal import make_console

#: Seconds between two drawings in a notebook.
_CELL_SECONDS = 0.5
#: Seconds between two lines of a log.
_LINE_SECONDS = 10.0


class ProgressBars:
    """Progress bars, one for each phase: name, count, time left and figures.

    In a notebook they are an output of the cell, drawn twice a second. Where the output is neither
    that nor a terminal, a line says what is being done when a phase begins and at least
    every ten seconds after that, whether or not anything is reported meanwhile.

    A context manager and a `Progress` callback, such as the `progress` of `prune`.

    Args:
        console: Where to draw; standard error by default.
        quiet: Whether to show nothing.
        line_seconds: Seconds between two lines.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        quiet: bool = False,
        line_seconds: float = _LINE_SECONDS,
    ) -> None:
        shown = console or make_console(stderr=True)
        self._console = Console(quiet=True, force_jupyter=False) if quiet else shown
        self._cell = NotebookCell() if self._console.is_jupyter else None
        self._progress = _progress(self._console)
        self._tasks: dict[str, TaskID] = {}
        self._last: ProgressEvent | None = None
        self._begun = time.monotonic()
        self._line_seconds = _CELL_SECONDS if self._cell else line_seconds
        self._ended = threading.Event()
        self._lines = threading.Thread(target=self._write_lines, daemon=True)

    def __enter__(self) -> ProgressBars:
        if self._cell is None:
            self._progress.start()
        if not self._console.is_terminal:
            self._lines.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._lines.is_alive():
            self._lines.join()
        if kind is None:
            self._finish()
        self._progress.stop()
        if self._cell is not None:
            self._cell.show(self._progress.get_renderable())

    def __call__(self, event: ProgressEvent) -> None:
        """Show an event; an event of another phase completes the present one."""
        if self._last is None or event.phase != self._last.phase:
            self._finish()
            self._start(event)
        self._last = event
        self._progress.update(
            self._tasks[event.phase],
            completed=event.done,
            total=event.total or None,
            counts=_counts(event),
            figures=_figures(event),
        )

    def _start(self, event: ProgressEvent) -> None:
        # a phase that is repeated gets a new bar
        self._tasks[event.phase] = self._progress.add_task(
            event.phase, total=event.total or None, counts="", figures=""
        )
        self._begun = time.monotonic()
        if self._cell is None and not self._console.is_terminal:
            self._console.print(f"{event.phase} ...", highlight=False)

    def _write_lines(self) -> None:
        while not self._ended.wait(self._line_seconds):
            if self._cell is not None:
                self._cell.show(self._progress.get_renderable())
            elif self._last is not None:
                self._console.print(self._line(self._last), highlight=False)

    def _line(self, event: ProgressEvent) -> str:
        seconds = time.monotonic() - self._begun
        parts = [event.phase, _counts(event), _figures(event), f"{seconds:.0f} s"]
        if event.total and event.done:
            left = seconds * (event.total - event.done) / event.done
            parts.append(f"{left:.0f} s left")
        parts.append(f"{_memory_gb():.1f} GB")
        return "  ".join(part for part in parts if part)

    def _finish(self) -> None:
        last = self._last
        if last is None:
            return
        total = last.total or 1
        counts = f"{total} {last.unit}" if last.unit else ""
        self._progress.update(self._tasks[last.phase], completed=total, total=total, counts=counts)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[counts]}", justify="right"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[figures]}"),
        console=console,
    )


def _counts(event: ProgressEvent) -> str:
    return f"{event.done}/{event.total} {event.unit}".strip() if event.total else ""


def _figures(event: ProgressEvent) -> str:
    return "  ".join(f"{name} {value}" for name, value in event.figures.items())


def _memory_gb() -> float:
    """Resident memory of this process."""
    return psutil.Process().memory_info().rss / 1e9
