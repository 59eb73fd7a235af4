"""``latency-service verifications``: delivered networks, measured."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latency_service.cli import common, target_options
from latency_service.cli.common import Json, Server, Token
from latency_service.cli.measurements import interval
from latency_service.cli.predictors import parse_widths
from latency_service.cli.watching import describe_place
from latency_service.core import exit_codes
from latency_service.core.credentials import DEFAULT_URL
from latency_service.jobs.schemas import AttemptView, JobView
from latency_service.verifications.schemas import VerifyRequest

if TYPE_CHECKING:
    from latency_service.core.client import Client

verifications = common.group("verifications", "Measure a delivered network on its target.")

_ATTEMPT_COLUMNS: list[common.Column[AttemptView]] = [
    ("attempt", "id"),
    ("number", "number"),
    ("agent", "agent_id"),
    ("state", "state"),
    ("leased", "leased_at"),
    ("failure", "failure_kind"),
]

_NETWORK = "Network"


@verifications.command("create")
def create_verification(
    file: Annotated[
        Path, typer.Argument(help="The delivered ONNX file, with its trained weights.")
    ],
    space: Annotated[
        str, typer.Option(help="Search space of the dense network.", rich_help_panel=_NETWORK)
    ],
    device: Annotated[
        str,
        typer.Option(
            help="Name of the device to measure on.", rich_help_panel=target_options.PANEL
        ),
    ],
    widths: Annotated[
        str | None,
        typer.Option(
            help="Widths of the pruned network, as in 16,32,64.", rich_help_panel=_NETWORK
        ),
    ] = None,
    target_threads: target_options.Threads = 1,
    target_batch: target_options.Batch = 1,
    target_provider: target_options.Provider = target_options.DEFAULT.provider,
    target_precision: target_options.Precision = "fp32",
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Wait until the file is measured.", rich_help_panel=common.OUTPUT
        ),
    ] = False,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Upload a file and queue its measurement. Exits with 1 when --wait sees it fail."""
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
        request = common.request_of(VerifyRequest, body)
        job = client.create_verification(request)
        if job.queue is not None and not as_json:
            print(f"queued: {describe_place(job.queue)}", file=sys.stderr)
        if wait:
            return _wait(client, job, as_json)
    return _print_job(job, as_json)


@verifications.command("show")
def show_verification(
    job: Annotated[str, typer.Argument(help="Id printed by `create`.")],
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """The state of a verification, its attempts and its measurement."""
    with common.connect(server, token) as client:
        _print_job(client.job(job), as_json)


def _wait(client: Client, job: JobView, as_json: bool) -> None:
    job = client.wait_for_job(job.id, timeout_seconds=math.inf)
    _print_job(job, as_json)
    if job.state != "done":
        raise typer.Exit(exit_codes.FAILED)
    if not as_json and job.result:
        for measurement in job.result["measurement_ids"]:
            view = client.measurement(measurement)
            common.print_fields(
                {"measured, ms [95 %]": interval(view), "verdict": view.summary.verdict}
            )


def _print_job(job: JobView, as_json: bool) -> None:
    if as_json:
        return common.print_json(job)
    common.print_fields(common.fields_of(job, "id", "kind", "state", "created_at", "finished_at"))
    if job.failure:
        common.print_fields({"failure": job.failure.kind, "message": job.failure.message})
    return common.print_table(
        job.attempts,
        _ATTEMPT_COLUMNS,
        "No agent has taken it yet.",
    )
