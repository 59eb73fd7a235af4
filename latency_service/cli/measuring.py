"""``latency-service doctor | measure``: this machine as a measuring instrument, without a
service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latency_service.cli import common, target_options
from latency_service.cli.measurements import interval
from latency_service.cli.running import StateDir, state_folder
from latency_service.core import exit_codes
from latency_service.core.runtimes import DEFAULT_PROVIDER
from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output
from latency_service.core.terminal.progress import ProgressDisplay

if TYPE_CHECKING:
    from latency_service.agent.doctor import Finding
    from latency_service.agent.measuring.profiler import LocalMeasurement
    from latency_service.devices.schemas import RuntimeConfig
    from latency_service.measurements.schemas import Summary


_FILE = "File and comparison"


@shows
def doctor(
    output: Output,
    server: Annotated[
        str | None, typer.Option(help="Address of a service to check as well.")
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Examine this machine: what makes its measurements noisy, each finding with its cure.

    Exits with 1 when something prevents measuring.
    """
    from latency_service.agent.doctor import examine

    with common.working("examining this machine"):
        findings = examine(state_folder(state_dir), server)
    columns: list[Column[Finding]] = [
        Column("check", "check"),
        Column("level", "level"),
        Column("found", "found", wraps=20),
        Column("cure", "cure", wraps=20),
    ]
    output.table(findings, columns, "Nothing to say.")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(exit_codes.FAILED)


@shows
def measure(
    model: Annotated[Path, typer.Argument(help="ONNX file.")],
    output: Output,
    target_threads: target_options.Threads = 1,
    target_batch: target_options.Batch = 1,
    target_provider: target_options.Provider = DEFAULT_PROVIDER,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=1x3x224x224",
            help="Sizes of an input whose own are dynamic. May be given for several inputs.",
            rich_help_panel=_FILE,
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Another ONNX file, measured in the same rounds: the latency is also printed as "
            "a share of its.",
            rich_help_panel=_FILE,
        ),
    ] = None,
) -> None:
    """Measure one model file on this machine, corrected by canaries like the measurements of
    agents. Weights may lie in a file beside the model.
    """
    from latency_service.devices.schemas import RuntimeConfig

    for path in filter(None, (model, reference)):
        common.read_input(path)
    shapes = dict(map(parse_shape, shape or []))
    runtime = RuntimeConfig(
        provider=target_provider, intra_threads=target_threads, batch=target_batch
    )
    measured = _measure(model, runtime, shapes, reference)
    output.record(_json(measured), _fields(measured, reference))


def parse_shape(value: str) -> tuple[str, tuple[int, ...]]:
    """Name and sizes of an input, out of ``NAME=1x3x224x224``.

    Raises:
        CommandError: it is not of that form.
    """
    name, _, sizes = value.rpartition("=")
    parts = sizes.split("x")
    if not name or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise common.CommandError(
            f"{value!r} is not a valid shape.",
            "Give the input's name and its sizes, such as --shape x=1x3x224x224.",
            exit_code=exit_codes.INVALID,
        )
    return name, tuple(int(part) for part in parts)


def _measure(
    model: Path,
    runtime: RuntimeConfig,
    shapes: Mapping[str, Sequence[int]],
    reference: Path | None,
) -> LocalMeasurement:
    from latency_service.agent.measuring.ipc import MeasuringFailed
    from latency_service.agent.measuring.profiler import measure_file

    try:
        with ProgressDisplay(patience_seconds=common.PATIENCE_SECONDS) as display:
            return measure_file(
                model,
                runtime,
                shapes=shapes,
                reference=reference,
                state_dir=common.settings().data_dir / "measure",
                on_step=display,
            )
    except MeasuringFailed as error:
        invalid = error.kind in ("model_invalid", "unsupported_op")
        raise common.CommandError(
            f"{model} was not measured: {error.message}",
            "`latency-service doctor` examines this machine.",
            exit_code=exit_codes.INVALID if invalid else exit_codes.FAILED,
            code=error.kind,
        ) from error


def _json(measured: LocalMeasurement) -> dict[str, Any]:
    fields = measured._asdict()
    rounds = fields.pop("rounds")
    return {**fields, "rounds": rounds}


def _fields(measured: LocalMeasurement, reference: Path | None) -> dict[str, Any]:
    summary = measured.summary
    reason = f": {summary.reason}" if summary.reason else ""
    shares = {f"share of {reference.name} [95 %]": _share(measured)} if reference else {}
    return {
        "latency, ms [95 %]": interval(summary),
        **shares,
        "verdict": f"{summary.verdict}{reason}",
        "plain median, ms": summary.naive_ms,
        "quiet rounds": _rounds(summary),
        "runtime": measured.fingerprint.runtime.key,
        "canaries when quiet, ms": measured.calibration.floor_ms,
    }


def _share(measured: LocalMeasurement) -> str:
    if (share := measured.share) is None:
        return "not measured: it cannot run here; measure it alone to see why"
    return f"{share.share:.1%} [{share.lower:.1%}, {share.upper:.1%}]"


def _rounds(summary: Summary) -> str:
    return (
        f"{summary.quiet_share:.0%}, {summary.quarantined_share:.0%} quarantined, "
        f"{summary.rounds_used} used"
    )
