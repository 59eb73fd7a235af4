"""What a log says of work that goes on."""

from __future__ import annotations

import io
import time

from rich.console import Console

from latency_service.core.terminal.progress import ProgressDisplay, Step


def test_a_log_gets_lines_with_counts_although_nothing_changes() -> None:
    log = io.StringIO()
    with ProgressDisplay(Console(file=log, width=40), line_seconds=0.05) as display:
        display(Step(phase="measuring", done=3, total=12, unit="architectures"))
        time.sleep(0.3)
        display(Step(phase="training"))
    lines = log.getvalue().splitlines()
    assert sum(line.startswith("measuring  3/12 architectures") for line in lines) >= 3
    assert any(line.endswith("left") for line in lines)
    assert "measuring: done in" in log.getvalue()
    assert lines[-2:] == ["training", "training: done in 0 s"] or lines[-1].startswith("training")


def test_who_joins_late_is_told_the_rate_of_what_it_has_seen() -> None:
    log = io.StringIO()
    console = Console(file=log, width=100)
    with ProgressDisplay(console, joins=True, line_seconds=0.05) as display:
        display(Step(phase="measuring", done=90, total=100))
        time.sleep(0.2)
    assert "left" not in log.getvalue()


def test_short_work_is_not_worth_a_word() -> None:
    log = io.StringIO()
    with ProgressDisplay(Console(file=log), patience_seconds=5.0) as display:
        display(Step(phase="backing up"))
    assert log.getvalue() == ""


def test_a_narrow_terminal_keeps_phase_and_counts() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=40, force_terminal=True, color_system=None)
    with ProgressDisplay(console) as display:
        display(Step(phase="measuring", done=3, total=12, unit="architectures"))
        display._progress.refresh()
    assert "measuring" in screen.getvalue()
    assert "3/12" in screen.getvalue()
