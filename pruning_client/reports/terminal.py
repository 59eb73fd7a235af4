"""The final tables in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latency_service.core.terminal.columns import Column, Interval
from latency_service.core.terminal.output import Table, print_table
from pruning_client.reports.facts import fact_text

if TYPE_CHECKING:
    from rich.console import Console

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

#: A network of a report: its name and its figures.
Row = dict[str, Any]

REPORT_COLUMNS: list[Column[Row]] = [
    Column("network", "network"),
    Column("measured, ms [95 %]", "measured", interval=True),
    Column("predicted, ms", "predicted", form=".3f"),
    Column("accuracy, %", "accuracy", form=".2f"),
    Column("file, kB", "kilobytes", form=",.0f"),
    Column("parameters", "parameters", spare=True, form=","),
    Column("MACs", "macs", spare=True, form=","),
]
FRONT_COLUMNS: list[Column[FrontPoint]] = [
    Column("run", "name"),
    Column("method", "method"),
    Column("budget", "budget"),
    Column("measured, ms", "latency_ms", form=".3f"),
    Column("accuracy, %", "accuracy", form=".2f"),
    Column("over, %", "over_percent", form="+.1f"),
    Column("on front", "on_front"),
    Column("lost, points", "accuracy_drop", spare=True, form=".2f"),
    Column("speed-up", "speed_up", spare=True, form=".2f"),
    Column("MACs", "mac_reduction", spare=True, form=".2f"),
    Column("device", "device", spare=True),
    Column("budget, ms", "budget_ms", spare=True, form=".3f"),
    Column("id", "run_id", spare=True),
]


def make_console(*, stderr: bool = False) -> Console:
    """A console; lines are not broken if its output is a file or a pipe."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, soft_wrap=True)


def report_rows(report: Report) -> list[Row]:
    """The dense and the pruned network, and the fp32 file of an int8 one."""
    rows = [
        {"network": "dense", **_network(report.dense)},
        {"network": "pruned", **_network(report.pruned)},
    ]
    if report.quantised is not None:
        rows.append({"network": "pruned, fp32", **_file(report.quantised.fp32)})
    return rows


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the final table and the verdict, to standard output by default."""
    print_table(Table(rows=report_rows(report), columns=REPORT_COLUMNS, empty=""), console)
    shown = console or make_console()
    if len(report.targets) > 1:
        for target in report.targets:
            shown.print(_target_line(target), highlight=False)
    shown.print(_verdict(report), highlight=False)
    shown.print(_predictor_line(report.predictor), highlight=False)
    if report.quantised is not None:
        shown.print(_quantised_line(report.quantised), highlight=False)
    for name, value in report.facts.items():
        shown.print(f"{name}: {fact_text(value)}", markup=False, highlight=False)
    for warning in report.warnings:
        shown.print(warning, style="bold yellow", markup=False, highlight=False)


def print_front(front: Front, console: Console | None = None) -> None:
    """Print the runs, fastest first, the chosen one, and the budgets that could not be met."""
    print_table(Table(rows=front.points, columns=FRONT_COLUMNS, empty="No finished run."), console)
    shown = console or make_console()
    for point in front.points:
        if point.run_id and point.run_id == front.chosen:
            shown.print(f"Chosen: {point.name}, {point.budget}.", markup=False, highlight=False)
    for budget, reason in front.failures.items():
        shown.print(f"[red]{budget}[/]: {reason}", highlight=False)


def _network(figures: NetworkFigures) -> Row:
    return {
        **_file(figures),
        "predicted": figures.predicted_ms,
        "parameters": figures.parameters,
        "macs": figures.macs,
    }


def _file(figures: FileFigures) -> Row:
    return {
        "measured": Interval(figures.latency_ms, figures.lower_ms, figures.upper_ms),
        "predicted": None,
        "accuracy": figures.accuracy,
        "kilobytes": figures.file_bytes / 1000,
        "parameters": None,
        "macs": None,
    }


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
