"""``latency-service predictors``: trained, versioned LPNets, and what they predict."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latency_service.cli import common
from latency_service.cli.common import DeviceFilter, Server, SpaceFilter, Token
from latency_service.core import exit_codes
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.terminal import completion
from latency_service.core.terminal.columns import Column, Interval
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output, Table, say
from latency_service.core.text import in_runs

if TYPE_CHECKING:
    from latency_service.predictors.schemas import (
        LearningPoint,
        ModelErrors,
        Prediction,
        PredictorView,
        Sidecar,
    )

predictors = common.group("predictors", "Trained latency predictors, and what they predict.")

_Predictor = Annotated[
    str, typer.Argument(help="Id of the predictor.", autocompletion=completion.predictors)
]

_PREDICTION = "Prediction"

_COLUMNS: list[Column[PredictorView]] = [
    Column("predictor", "id"),
    Column("device", "device"),
    Column("error, %", lambda row: row.sidecar.mape),
    Column("floor, %", lambda row: row.sidecar.repeat_difference),
    Column("stale", "stale"),
    Column("version", "version", spare=True),
    Column("space", "space_id", length=12, spare=True),
    Column("measurements", lambda row: row.sidecar.measurements, spare=True),
    Column("model", lambda row: row.sidecar.model, spare=True),
    Column("created", "created_at", spare=True),
    Column("runtime", lambda row: row.runtime.key, spare=True),
]


@predictors.command("list")
@shows
def list_predictors(
    output: Output,
    space: SpaceFilter = None,
    device: DeviceFilter = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="Show only those of this runtime, as in CPUExecutionProvider/t1/b1/fp32.",
            rich_help_panel=common.FILTER,
        ),
    ] = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Predictors, newest first."""
    with common.connect(server, token) as client:
        rows = client.predictors(space_id=space, device=device, runtime=runtime)
    for cure in dict.fromkeys(row.cure for row in rows if row.stale):
        say(f"Stale, the device has changed since. {cure}")
    output.table(
        rows,
        _COLUMNS,
        "No predictor yet: make one with `latency-service campaigns create --space ID --device "
        "NAME`.",
    )


@predictors.command("show")
@shows
def show_predictor(
    predictor: _Predictor, output: Output, server: Server = DEFAULT_URL, token: Token = None
) -> None:
    """One predictor: errors of all rivals, the repeatability floor beside them, learning curve and
    lattice.

    CSV has the rivals.
    """
    with common.connect(server, token) as client:
        view = client.predictor(predictor)
    sidecar = view.sidecar
    output.record(view, _summary(view), _rivals(sidecar), _learning(sidecar), _groups(sidecar))


def _rivals(sidecar: Sidecar) -> Table[ModelErrors]:
    columns: list[Column[ModelErrors]] = [
        Column("model", lambda row: row.name + (" (served)" if row.name == sidecar.model else "")),
        Column("error, %", "mape"),
        Column("p90, %", "p90"),
        Column("within 5 %", "within_5"),
        Column("within 10 %", "within_10"),
        Column("Spearman", "spearman", spare=True),
        Column("differentiable", "differentiable", spare=True),
    ]
    rivals = sorted(sidecar.rivals, key=lambda row: row.mape)
    return Table(rows=rivals, columns=columns, empty="No rival was fitted.")


def _learning(sidecar: Sidecar) -> Table[LearningPoint]:
    columns: list[Column[LearningPoint]] = [
        Column("trained on", "measurements"),
        Column(f"error of {sidecar.model}, %", "mape"),
    ]
    empty = "No learning curve: too few measurements for one."
    return Table(rows=sidecar.learning_curve, columns=columns, empty=empty)


def _groups(sidecar: Sidecar) -> Table[tuple[str, int, list[int]]]:
    columns: list[Column[tuple[str, int, list[int]]]] = [
        Column("group", lambda row: row[0]),
        Column("full width", lambda row: row[1]),
        Column("worthwhile widths", lambda row: in_runs(row[2]), wraps=20),
    ]
    rows = list(zip(sidecar.groups, sidecar.full_widths, sidecar.lattice, strict=True))
    return Table(rows=rows, columns=columns, empty="No width group.")


@predictors.command("predict")
@shows
def predict(
    predictor: _Predictor,
    widths: Annotated[
        str,
        typer.Option(
            help="One width per group, as in 16,32,64; semicolons between several vectors.",
            rich_help_panel=_PREDICTION,
        ),
    ],
    output: Output,
    gradient: Annotated[
        bool,
        typer.Option(
            "--gradient",
            help="Print the gradient too, in ms per channel.",
            rich_help_panel=_PREDICTION,
        ),
    ] = False,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Latency of one or many architectures."""
    vectors = parse_widths(widths)
    with common.connect(server, token) as client:
        answer = client.predict(predictor, vectors, gradient=gradient)
    if answer.stale:
        say(f"The predictor is stale: its device has changed since. {answer.cure}")
    table = Table(
        rows=range(len(vectors)),
        columns=_prediction_columns(vectors, answer),
        empty="No widths given.",
    )
    output.record(answer, {}, table)


def _prediction_columns(vectors: list[list[int | float]], answer: Prediction) -> list[Column[int]]:
    columns: list[Column[int]] = [
        Column("widths", lambda at: vectors[at], wraps=20),
        Column(
            "ms",
            lambda at: Interval(answer.latency_ms[at], answer.lower_ms[at], answer.upper_ms[at]),
            interval=True,
        ),
        Column("source", lambda at: answer.source[at]),
    ]
    slopes = answer.gradient
    if slopes is not None:
        columns.append(Column("gradient, ms per channel", lambda at: slopes[at], wraps=20))
    return columns


@predictors.command("download")
@shows
def download(
    predictor: _Predictor,
    file: Annotated[Path, typer.Argument(help="File to write.", show_default=False)],
    output: Output,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Save the predictor as the ONNX file that the service itself runs."""
    with common.connect(server, token) as client:
        content = client.artifact(client.predictor(predictor))
    common.write_output(file, content)
    fields = {
        "file": str(file),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    output.record(fields, fields)


def parse_widths(argument: str) -> list[list[int | float]]:
    """Width vectors [B][G] from ``16,32;8,16``.

    Raises:
        CommandError: something in it is no number.
    """
    try:
        return [
            [_number(entry) for entry in vector.split(",")]
            for vector in argument.strip(";").split(";")
        ]
    except ValueError as error:
        raise common.CommandError(
            f"--widths {argument!r} is not a list of numbers.",
            "Give one for each group, as in --widths 16,32,64.",
            exit_code=exit_codes.INVALID,
            code="bad_widths",
        ) from error


def _number(entry: str) -> int | float:
    value = float(entry)
    return int(value) if value.is_integer() else value


def _summary(view: PredictorView) -> dict[str, Any]:
    sidecar = view.sidecar
    return {
        **common.fields_of(view, "id", "space_id", "device", "version", "stale", "created_at"),
        **({"what to do": view.cure} if view.stale else {}),
        "runtime": view.runtime.key,
        "served model": sidecar.model,
        "measurements": sidecar.measurements,
        "held-out error, %": sidecar.mape,
        "floor (repeat difference), %": sidecar.repeat_difference,
        "interval": (
            f"{sidecar.interval_level:.0%}, covers {sidecar.interval_coverage:.0%} of held-out"
        ),
        "dense, ms": sidecar.dense_ms,
        "lowest reachable, ms": sidecar.lowest_ms,
    }
