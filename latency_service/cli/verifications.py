"""``latency-service verifications``: delivered networks, measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latency_service.cli import common, target_options
from latency_service.cli.common import Server, Token
from latency_service.cli.measurements import interval
from latency_service.cli.predictors import parse_widths
from latency_service.cli.watching import PATIENCE_SECONDS, POLL_SECONDS, describe_place
from latency_service.core import exit_codes
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.runtimes import DEFAULT_PROVIDER
from latency_service.core.terminal import completion
from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.options import OUTPUT, shows
from latency_service.core.terminal.output import Output, Table, say
from latency_service.core.terminal.progress import ProgressDisplay, Step
from latency_service.core.waiting import polled

if TYPE_CHECKING:
    from latency_service.core.client import Client
    from latency_service.jobs.schemas import AttemptView, JobView

verifications = common.group("verifications", "Measure a delivered network on its target.")

_ATTEMPT_COLUMNS: list[Column[AttemptView]] = [
    Column("attempt", "id"),
    Column("number", "number"),
    Column("state", "state"),
    Column("failure", "failure_kind"),
    Column("leased", "leased_at", spare=True),
    Column("agent", "agent_id", spare=True),
]

_NETWORK = "Network"
_WAITING = ("queued", "leased")
#: What a state of a job is called while somebody waits for it.
_PHASES = {"queued": "waiting for the device", "leased": "measuring"}


@verifications.command("create")
@shows
def create_verification(
    file: Annotated[
        Path, typer.Argument(help="The delivered ONNX file, with its trained weights.")
    ],
    space: Annotated[
        str,
        typer.Option(
            help="Search space of the dense network.",
            autocompletion=completion.spaces,
            rich_help_panel=_NETWORK,
        ),
    ],
    device: Annotated[
        str,
        typer.Option(
            help="Name of the device to measure on.",
            autocompletion=completion.devices,
            rich_help_panel=target_options.PANEL,
        ),
    ],
    output: Output,
    widths: Annotated[
        str | None,
        typer.Option(
            help="Widths of the pruned network, as in 16,32,64.", rich_help_panel=_NETWORK
        ),
    ] = None,
    target_threads: target_options.Threads = 1,
    target_batch: target_options.Batch = 1,
    target_provider: target_options.Provider = DEFAULT_PROVIDER,
    target_precision: target_options.Precision = "fp32",
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait until the file is measured.", rich_help_panel=OUTPUT),
    ] = False,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Upload a file and queue its measurement. Exits with 1 when --wait sees it fail.

    Ctrl-C ends --wait; the measurement stays queued.
    """
    from latency_service.verifications.schemas import VerifyRequest

    content = common.read_input(file)
    with common.connect(server, token) as client:
        body = {
            "device": device,
            "model_sha256": client.upload_model(content),
            "space_id": space,
            "widths": None if widths is None else parse_widths(widths)[0],
            "runtime": target_options.runtime_fields(
                target_provider, target_threads, target_batch, target_precision
            ),
        }
        job = client.create_verification(common.request_of(VerifyRequest, body))
        if job.queue is not None and output.is_text:
            say(f"queued: {describe_place(job.queue)}")
        if wait:
            job = _waited(client, job.id)
        _show(client, job, output)
    if not wait:
        output.remark(f"\nSee it:\n  latency-service verifications show {job.id}")
    elif job.state != "done":
        raise typer.Exit(exit_codes.FAILED)


@verifications.command("show")
@shows
def show_verification(
    job: Annotated[str, typer.Argument(help="Id printed by `create`.")],
    output: Output,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """The state of a verification, its attempts and its measurement.

    CSV has the attempts.
    """
    with common.connect(server, token) as client:
        _show(client, client.job(job), output)


def _waited(client: Client, job_id: str) -> JobView:
    """The job once it has ended.

    Raises:
        CommandError: Ctrl-C ended the waiting.
    """
    try:
        with ProgressDisplay() as display:
            looks = polled(
                lambda: client.job(job_id),
                pause_seconds=POLL_SECONDS,
                patience_seconds=PATIENCE_SECONDS,
            )
            for view in looks:
                if view.state not in _WAITING:
                    return view
                figures = {"queue": describe_place(view.queue)} if view.queue else {}
                display(Step(phase=_PHASES[view.state], figures=figures))
    except KeyboardInterrupt as error:
        raise common.interrupted(
            f"the verification {job_id}", f"latency-service verifications show {job_id}"
        ) from error
    raise AssertionError("polling never ends")


def _show(client: Client, job: JobView, output: Output) -> None:
    fields: dict[str, Any] = common.fields_of(
        job, "id", "kind", "state", "created_at", "finished_at"
    )
    if job.failure:
        fields |= {"failure": job.failure.kind, "message": job.failure.message}
    if output.is_text and job.result:
        for measurement in job.result.get("measurement_ids", []):
            view = client.measurement(measurement)
            fields |= {
                "measurement": measurement,
                "measured, ms [95 %]": interval(view.summary),
                "verdict": view.summary.verdict,
            }
    attempts = Table(
        rows=job.attempts, columns=_ATTEMPT_COLUMNS, empty="No agent has taken it yet."
    )
    output.record(job, fields, attempts)
