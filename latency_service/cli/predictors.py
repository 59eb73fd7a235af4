"""``latency-service predictors``: trained, versioned LPNets, and what they predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from latency_service.cli import common
from latency_service.cli.common import DeviceFilter, Json, Server, SpaceFilter, Token
from latency_service.core import exit_codes
from latency_service.core.credentials import DEFAULT_URL
from latency_service.predictors.schemas import (
    LearningPoint,
    ModelErrors,
    Prediction,
    PredictorView,
    Sidecar,
)

predictors = common.group("predictors", "Trained latency predictors, and what they predict.")

_COLUMNS: list[common.Column[PredictorView]] = [
    ("predictor", "id"),
    ("device", "device"),
    ("runtime", lambda row: row.runtime.key),
    ("space", lambda row: row.space_id[:12]),
    ("version", "version"),
    ("stale", "stale"),
    ("model", lambda row: row.sidecar.model),
    ("error, %", lambda row: row.sidecar.mape),
    ("floor, %", lambda row: row.sidecar.repeat_difference),
    ("measurements", lambda row: row.sidecar.measurements),
    ("created", "created_at"),
]


@predictors.command("list")
def list_predictors(
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
    as_json: Json = False,
) -> None:
    """Predictors, newest first."""
    with common.connect(server, token) as client:
        rows = client.predictors(space_id=space, device=device, runtime=runtime)
    if as_json:
        return common.print_json(rows)
    for cure in dict.fromkeys(row.cure for row in rows if row.stale):
        _warn(f"Stale, the device has changed since. {cure}")
    return common.print_table(
        rows,
        _COLUMNS,
        "No predictor yet: make one with `latency-service campaigns create --space ID --device "
        "NAME`.",
    )


@predictors.command("show")
def show_predictor(
    predictor: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """One predictor: errors of all rivals, the repeatability floor beside them, learning curve and
    lattice.
    """
    with common.connect(server, token) as client:
        view = client.predictor(predictor)
    if as_json:
        return common.print_json(view)
    common.print_fields(_summary(view))
    _print_rivals(view.sidecar)
    _print_learning_curve(view.sidecar)
    return _print_groups(view.sidecar)


def _print_rivals(sidecar: Sidecar) -> None:
    columns: list[common.Column[ModelErrors]] = [
        ("model", lambda row: row.name + (" (served)" if row.name == sidecar.model else "")),
        ("error, %", "mape"),
        ("p90, %", "p90"),
        ("within 5 %", "within_5"),
        ("within 10 %", "within_10"),
        ("Spearman", "spearman"),
        ("differentiable", "differentiable"),
    ]
    print()
    rivals = sorted(sidecar.rivals, key=lambda row: row.mape)
    common.print_table(rivals, columns, "No rival was fitted.")


def _print_learning_curve(sidecar: Sidecar) -> None:
    columns: list[common.Column[LearningPoint]] = [
        ("trained on", "measurements"),
        (f"error of {sidecar.model}, %", "mape"),
    ]
    print()
    empty = "No learning curve: too few measurements for one."
    common.print_table(sidecar.learning_curve, columns, empty)


def _print_groups(sidecar: Sidecar) -> None:
    columns: list[common.Column[tuple[str, int, list[int]]]] = [
        ("group", lambda row: row[0]),
        ("full", lambda row: row[1]),
        ("lattice", lambda row: row[2]),
    ]
    print()
    groups = list(zip(sidecar.groups, sidecar.full_widths, sidecar.lattice, strict=True))
    common.print_table(groups, columns, "No width group.")


@predictors.command("predict")
def predict(
    predictor: str,
    widths: Annotated[
        str,
        typer.Option(
            help="One width per group, as in 16,32,64; semicolons between several vectors."
        ),
    ],
    gradient: Annotated[
        bool, typer.Option("--gradient", help="Print the gradient too, in ms per channel.")
    ] = False,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Latency of one or many architectures."""
    vectors = parse_widths(widths)
    with common.connect(server, token) as client:
        answer = client.predict(predictor, vectors, gradient=gradient)
    if as_json:
        return common.print_json(answer)
    if answer.stale:
        _warn(f"The predictor is stale: its device has changed since. {answer.cure}")
    return common.print_table(
        range(len(vectors)), _prediction_columns(vectors, answer), "No widths given."
    )


def _prediction_columns(
    vectors: list[list[int | float]], answer: Prediction
) -> list[common.Column[int]]:
    columns: list[common.Column[int]] = [
        ("widths", lambda at: vectors[at]),
        ("ms", lambda at: answer.latency_ms[at]),
        ("interval, ms", lambda at: [answer.lower_ms[at], answer.upper_ms[at]]),
        ("source", lambda at: answer.source[at]),
    ]
    slopes = answer.gradient
    if slopes is not None:
        columns.append(("gradient, ms per channel", lambda at: slopes[at]))
    return columns


def _warn(line: str) -> None:
    Console(stderr=True).print(line, markup=False, soft_wrap=True)


@predictors.command("download")
def download(predictor: str, file: Path, server: Server = DEFAULT_URL, token: Token = None) -> None:
    """Save the predictor as the ONNX file that the service itself runs."""
    with common.connect(server, token) as client:
        content = client.artifact(client.predictor(predictor))
    common.write_output(file, content)
    print(file)


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
