"""The final tables in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from pruning_client.reports.facts import fact_text
from pruning_client.reports.schema import (
    FileFigures,
    Front,
    FrontPoint,
    NetworkFigures,
    PredictorFigures,
    QuantisedFigures,
    Report,
    TargetFigures,
)

#: Number of columns if the output is not a terminal.
_WIDTH = 132
_REPORT_HEADINGS = (
    "",
    "measured, ms",
    "interval, ms",
    "predicted, ms",
    "accuracy, %",
    "file, kB",
    "parameters",
    "MACs",
)
_FRONT_NAMES = ("run", "method", "device", "budget")
_FRONT_HEADINGS = (
    *_FRONT_NAMES,
    "budget, ms",
    "measured, ms",
    "over, %",
    "accuracy, %",
    "lost, points",
    "speed-up",
    "MACs",
    "",
)


def make_console(*, stderr: bool = False) -> Console:
    """A console that is wide enough for the tables if its output is a file or a pipe."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_WIDTH)


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the final table and the verdict, to standard output by default."""
    shown = console or make_console()
    table = headed_table(_REPORT_HEADINGS, left=("",))
    table.add_row("dense", *_network_cells(report.dense))
    table.add_row("pruned", *_network_cells(report.pruned))
    if report.quantised is not None:
        table.add_row("pruned, fp32", *_file_cells(report.quantised.fp32))
    table.add_row("budget", f"{report.budget_ms:.3f}")
    shown.print(table)
    if len(report.targets) > 1:
        for target in report.targets:
            shown.print(_target_line(target), highlight=False)
    shown.print(_verdict(report))
    shown.print(_predictor_line(report.predictor))
    if report.quantised is not None:
        shown.print(_quantised_line(report.quantised), highlight=False)
    for name, value in report.facts.items():
        shown.print(f"{name}: {fact_text(value)}", markup=False, highlight=False)
    for warning in report.warnings:
        shown.print(warning, style="bold yellow", markup=False, highlight=False)


def print_front(front: Front, console: Console | None = None) -> None:
    """Print the runs, fastest first, and the budgets that could not be met."""
    shown = console or make_console()
    table = headed_table(_FRONT_HEADINGS, left=_FRONT_NAMES)
    for point in front.points:
        table.add_row(*_point_cells(point, front.chosen))
    shown.print(table)
    for budget, reason in front.failures.items():
        shown.print(f"[red]{budget}[/]: {reason}", highlight=False)


def headed_table(headings: Sequence[str], *, left: Sequence[str]) -> Table:
    """An empty table; columns of figures are aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right")
    return table


def _network_cells(figures: NetworkFigures) -> tuple[str, ...]:
    predicted = f"{figures.predicted_ms:.3f}"
    return (
        *_file_cells(figures, predicted),
        f"{figures.parameters:,}",
        f"{figures.macs:,}",
    )


def _file_cells(figures: FileFigures, predicted: str = "") -> tuple[str, ...]:
    return (
        f"{figures.latency_ms:.3f}",
        f"{figures.lower_ms:.3f}-{figures.upper_ms:.3f}",
        predicted,
        f"{figures.accuracy:.2f}",
        f"{figures.file_bytes / 1000:,.0f}",
    )


def _quantised_line(quantised: QuantisedFigures) -> str:
    layers = ", ".join(quantised.float_layers) or "none"
    return (
        f"int8, {quantised.calibration} calibration on {quantised.images} images. "
        f"Layers left in float: {layers}."
    )


def _target_line(target: TargetFigures) -> str:
    return (
        f"{target.device}: {target.latency_ms:.3f} ms of {target.budget_ms:.3f} ms, "
        f"{target.outcome} (probability {target.probability:.1%}, dense {target.dense_ms:.3f} ms)"
    )


def _verdict(report: Report) -> str:
    colour = {"met": "green", "not met": "red", "not decided": "yellow"}[report.outcome]
    side = "over" if report.over_percent > 0 else "under"
    spent = report.verification
    return (
        f"Budget {report.budget_ms:.3f} ms [{colour}]{report.outcome}[/]: "
        f"measured {abs(report.over_percent):.1f} % {side} it on {report.device}, "
        f"probability {report.probability:.1%} "
        f"({spent.readings} measurements in {spent.seconds:.0f} s)."
    )


def _predictor_line(predictor: PredictorFigures) -> str:
    floor = predictor.repeat_difference
    repeated = "" if floor is None else f" (repeat difference {floor:.1f} %)"
    return (
        f"Predictor {predictor.model}: held-out error {predictor.mape:.1f} %{repeated}, "
        f"{predictor.measurements} measurements."
    )


def _point_cells(point: FrontPoint, chosen: str | None) -> tuple[str, ...]:
    marks = ["front"] if point.on_front else []
    if point.run_id and point.run_id == chosen:
        marks.append("chosen")
    return (
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
        " ".join(marks),
    )
