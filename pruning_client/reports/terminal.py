"""Progress bars and the final table in a terminal."""

from __future__ import annotations

from types import TracebackType

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
from rich.table import Table

from pruning_client.execution.progress import ProgressEvent
from pruning_client.reports.schema import Front, NetworkFigures, Report

#: Columns where there is no terminal to ask.
_WIDTH = 132


def make_console(*, stderr: bool = False) -> Console:
    """A console that is wide enough for the table when its output goes to a file or a pipe."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_WIDTH)


class Bars:
    """One bar for each phase: name, count, time left, figures. Use as a context manager; call with
    steps.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = Console(quiet=True) if quiet else console
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[counts]}", justify="right"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[figures]}"),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._current: str | None = None
        self._last: ProgressEvent | None = None

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        self._progress.stop()

    def __call__(self, step: ProgressEvent) -> None:
        """Show a step; a step of another phase ends the one before."""
        if step.phase != self._current:
            self._finish()
            self._current = step.phase
            # a phase that comes again gets a bar of its own
            self._tasks[step.phase] = self._progress.add_task(
                step.phase, total=step.total or None, counts="", figures=""
            )
            if not self._console.is_terminal:
                self._console.print(f"{step.phase} ...", highlight=False)
        counts = f"{step.done}/{step.total} {step.unit}".strip() if step.total else ""
        self._last = step
        figures = "  ".join(f"{name} {value}" for name, value in step.figures.items())
        self._progress.update(
            self._tasks[step.phase],
            completed=step.done,
            total=step.total or None,
            counts=counts,
            figures=figures,
        )

    def _finish(self) -> None:
        if self._current is not None and self._last is not None:
            total = self._last.total or 1
            counts = f"{total} {self._last.unit}" if self._last.unit else ""
            self._progress.update(
                self._tasks[self._current], completed=total, total=total, counts=counts
            )


def print_result(console: Console, report: Report) -> None:
    """The final table, and the verdict."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (
        "",
        "measured, ms",
        "interval, ms",
        "predicted, ms",
        "accuracy, %",
        "parameters",
        "MACs",
    ):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("dense", *_row(report.dense))
    table.add_row("pruned", *_row(report.pruned))
    table.add_row("budget", f"{report.budget_ms:.3f}")
    console.print(table)
    if len(report.targets) > 1:
        for target in report.targets:
            state = "met" if target.met else "not met"
            console.print(
                f"{target.device}: {target.latency_ms:.3f} ms of {target.budget_ms:.3f} ms, "
                f"{state} "
                f"(dense {target.dense_ms:.3f} ms)",
                highlight=False,
            )
    verdict = "[green]met[/]" if report.met else "[red]not met[/]"
    side = "over" if report.over_percent > 0 else "under"
    console.print(
        f"Budget {report.budget_ms:.3f} ms {verdict}: "
        f"measured {abs(report.over_percent):.1f} % {side} it on {report.device}."
    )
    floor = report.predictor.repeat_difference
    repeated = "" if floor is None else f" (repeat difference {floor:.1f} %)"
    console.print(
        f"Predictor {report.predictor.model}: held-out error {report.predictor.mape:.1f} "
        f"%{repeated}, "
        f"{report.predictor.measurements} measurements."
    )


def print_front(console: Console, front: Front, *, as_json: bool) -> None:
    """Runs side by side, fastest first, and the budgets that could not be had."""
    if as_json:
        print(front.model_dump_json(indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    left = ("run", "method", "device", "budget")
    headings = (
        *left,
        "budget, ms",
        "measured, ms",
        "over, %",
        "accuracy, %",
        "lost, points",
        "speed-up",
        "MACs",
        "",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right")
    for point in front.points:
        marks = ("front" if point.on_front else "") + (
            " chosen" if point.run_id and point.run_id == front.chosen else ""
        )
        table.add_row(
            point.name,
            point.method,
            point.device,
            point.budget,
            f"{point.budget_ms:.3f}",
            f"{point.latency_ms:.3f}",
            f"{point.over_percent:+.1f}",
            f"{point.accuracy:.2f}",
            f"{point.accuracy_drop:.2f}",
            f"{point.speed_up:.2f}",
            f"{point.mac_reduction:.2f}",
            marks,
        )
    console.print(table)
    for budget, reason in front.failures.items():
        console.print(f"[red]{budget}[/]: {reason}", highlight=False)


def _row(figures: NetworkFigures) -> tuple[str, ...]:
    return (
        f"{figures.latency_ms:.3f}",
        f"{figures.lower_ms:.3f}-{figures.upper_ms:.3f}",
        f"{figures.predicted_ms:.3f}",
        f"{figures.accuracy:.2f}",
        f"{figures.parameters:,}",
        f"{figures.macs:,}",
    )
