"""``latency-service doctor | measure``: this machine as a measuring instrument, without a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latency_service.commands import common
from latency_service.commands.common import Json


def doctor(
    server: Annotated[str | None, typer.Option(help="Also whether this service can be reached.")] = None,
    as_json: Json = False,
) -> None:
    """Examine this machine: what makes its measurements noisy, each finding with its cure.

    Exits with 1 when something prevents measuring.
    """
    from latency_service.agent.doctor import examine

    findings = examine(server=server)
    if as_json:
        common.print_json([finding.model_dump(mode="json") for finding in findings])
    else:
        rows = [finding.model_dump() for finding in findings]
        columns: list[common.Column] = [("check", "check"), ("", "level"), ("found", "found"), ("cure", "cure")]
        common.print_table(rows, columns, "Nothing to say.")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(common.FAILED)


def measure(
    model: Annotated[Path, typer.Argument(help="ONNX file.")],
    threads: Annotated[int, typer.Option(min=1, max=256, help="Intra-op threads.")] = 1,
    batch: Annotated[int, typer.Option(min=1, max=4096, help="Images per run.")] = 1,
    provider: Annotated[str, typer.Option(help="ONNX Runtime execution provider.")] = "CPUExecutionProvider",
    as_json: Json = False,
) -> None:
    """Measure one model file on this machine, corrected by canaries as the service's agents do it."""
    from latency_service.agent.measure import measure_file
    from latency_service.devices.schemas import RuntimeConfig

    runtime = RuntimeConfig(provider=provider, intra_threads=threads, batch=batch)
    summary = measure_file(model, runtime)
    if as_json:
        return common.print_json(summary.model_dump(mode="json"))
    return common.print_fields(summary.model_dump())
