"""Progress in a terminal, or as lines of a log."""

from __future__ import annotations

import psutil

from latency_service.core.terminal.progress import ProgressDisplay


class ProgressBars(ProgressDisplay):
    """Progress bars, one for each phase: name, count, time left and figures.

    Where the output is no terminal, a line says what is being done when a phase begins and ends
    and at least every ten seconds between, whether or not anything is reported meanwhile.

    A context manager and a `Progress` callback, such as the `progress` of `prune`.

    Args:
        console: Where to draw; standard error by default.
        quiet: Whether to show nothing.
        line_seconds: Seconds between two lines.
    """

    def extras(self) -> str:
        """Resident memory of this process."""
        return f"{psutil.Process().memory_info().rss / 1e9:.1f} GB"
