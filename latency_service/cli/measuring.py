"""``latency-service doctor | measure``: this machine as a measuring instrument, without a
service.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latency_service.cli import common, target_options
from latency_service.cli.common import Json
from latency_service.core import exit_codes

if TYPE_CHECKING:
    from latency_service.agent.doctor import Finding


def doctor(
    server: Annotated[
        str | None, typer.Option(help="Address of a service to check as well.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Examine this machine: what makes its measurements noisy, each finding with its cure.

    Exits with 1 when something prevents measuring.
    """
    from latency_service.agent.doctor import examine

    findings = examine(server=server)
    if as_json:
        common.print_json(findings)
    else:
        columns: list[common.Column[Finding]] = [
            ("check", "check"),
            ("", "level"),
            ("found", "found"),
            ("cure", "cure"),
        ]
        common.print_table(findings, columns, "Nothing to say.")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(exit_codes.FAILED)


def measure(
    model: Annotated[Path, typer.Argument(help="ONNX file.")],
    target_threads: target_options.Threads = 1,
    target_batch: target_options.Batch = 1,
    target_provider: target_options.Provider = target_options.DEFAULT.provider,
    as_json: Json = False,
) -> None:
    """Measure one model file on this machine, corrected by canaries as the service's agents
    do it.
    """
    from latency_service.agent.measuring.ipc import MeasuringFailed
    from latency_service.agent.measuring.profiler import measure_file
    from latency_service.devices.schemas import RuntimeConfig

    common.read_input(model)
    runtime = RuntimeConfig(
        provider=target_provider, intra_threads=target_threads, batch=target_batch
    )
    try:
        found = measure_file(model, runtime, state_dir=common.settings().data_dir / "measure")
    except MeasuringFailed as error:
        invalid = error.kind in ("model_invalid", "unsupported_op")
        raise common.CommandError(
            f"{model} was not measured: {error.message}",
            "`latency-service doctor` examines this machine.",
            exit_code=exit_codes.INVALID if invalid else exit_codes.FAILED,
            code=error.kind,
        ) from error
    if as_json:
        parts = {
            name: part.model_dump(mode="json")
            for name, part in found._asdict().items()
            if name != "rounds"
        }
        return common.print_json(
            {**parts, "rounds": [one.model_dump(mode="json") for one in found.rounds]}
        )
    summary = found.summary
    return common.print_fields(
        {
            "latency, ms [95 %]": (
                f"{summary.latency_ms:.4g} [{summary.lower_ms:.4g}, {summary.upper_ms:.4g}]"
            ),
            "verdict": summary.verdict + (f": {summary.reason}" if summary.reason else ""),
            "plain median, ms": summary.naive_ms,
            "quiet rounds": f"{summary.quiet_share:.0%}, "
            f"{summary.quarantined_share:.0%} quarantined, "
            f"{summary.rounds_used} used",
            "runtime": runtime.key,
            "canaries when quiet, ms": found.calibration.floor_ms,
        }
    )
