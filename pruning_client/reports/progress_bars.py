"""Progress in a terminal, under a notebook's cell, or as lines of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from latency_service.core.terminal.progress import LINE_SECONDS, ProgressDisplay
from pruning_client.reports.notebook_cell import NotebookCell

if TYPE_CHECKING:
    from rich.console import Console

#: Seconds between two drawings in a notebook.
_CELL_SECONDS = 0.5


class ProgressBars(ProgressDisplay):
    """Progress bars, one for each phase: name, count, time left and figures.

    In a notebook they are an output of the cell, drawn twice a second. Where the output is neither
    that nor a terminal, a line says what is being done when a phase begins and ends and at least
    every ten seconds between, whether or not anything is reported meanwhile.

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
        line_seconds: float = LINE_SECONDS,
    ) -> None:
        super().__init__(console, quiet=quiet, line_seconds=line_seconds)
        self._cell = NotebookCell() if self._console.is_jupyter and not quiet else None
        if self._cell is not None:
            self._line_seconds = _CELL_SECONDS

    def extras(self) -> str:
        """Resident memory of this process."""
        return f"{psutil.Process().memory_info().rss / 1e9:.1f} GB"

    def _say(self, line: str) -> None:
        if self._cell is None:
            super()._say(line)
        else:
            self._cell.show(self._progress.get_renderable())
