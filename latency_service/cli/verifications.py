"""``latency-service verifications``: delivered networks, measured."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from latency_service.cli import common, target_options
from latency_service.cli.common import Json, Server, Token
from latency_service.cli.measurements import interval
from latency_service.cli.predictors import parse_widths
from latency_service.core import exit_codes
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.transport import Transport

verifications = common.group("verifications", "Measure a delivered network on its target.")

POLL_SECONDS = 0.5


@verifications.command("create")
def create_verification(
    file: Annotated[
        Path, typer.Argument(help="The delivered ONNX file, with its trained weights.")
    ],
    space: Annotated[str, typer.Option(help="Search space of the dense network.")],
    device: Annotated[str, typer.Option(help="Name of the device to measure on.")],
    widths: Annotated[
        str | None, typer.Option(help="Widths of the pruned network, as in 16,32,64.")
    ] = None,
    target_threads: target_options.Threads = 1,
    target_batch: target_options.Batch = 1,
    target_provider: target_options.Provider = target_options.DEFAULT.provider,
    target_precision: target_options.Precision = "fp32",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the file is measured.")] = False,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Upload a file and queue its measurement. Exits with 1 when --wait sees it fail."""
    content = common.read_input(file)
    sha256 = hashlib.sha256(content).hexdigest()
    body: dict[str, Any] = {
        "device": device,
        "model_sha256": sha256,
        "space_id": space,
        "runtime": {
            "provider": target_provider,
            "intra_threads": target_threads,
            "batch": target_batch,
            "precision": target_precision,
        },
    }
    if widths is not None:
        body["widths"] = parse_widths(widths)[0]
    with common.connect(server, token) as service:
        headers = {"content-type": "application/octet-stream"}
        service.request("PUT", f"/v1/models/{sha256}", content=content, headers=headers)
        job = service.request("POST", "/v1/verifications", json=body).json()
        if wait:
            return _wait(service, job, as_json)
    return _print_job(job, as_json)


@verifications.command("show")
def show_verification(
    job: Annotated[str, typer.Argument(help="Id printed by `create`.")],
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """The state of a verification, its attempts and its measurement."""
    _print_job(common.fetch(server, token, f"/v1/jobs/{common.segment(job)}"), as_json)


def _wait(service: Transport, job: dict[str, Any], as_json: bool) -> None:
    while job["state"] in ("queued", "leased"):
        time.sleep(POLL_SECONDS)
        job = service.request("GET", f"/v1/jobs/{job['id']}").json()
    _print_job(job, as_json)
    if job["state"] != "done":
        raise typer.Exit(exit_codes.FAILED)
    if not as_json:
        for measurement in job["result"]["measurement_ids"]:
            view = service.request("GET", f"/v1/measurements/{measurement}").json()
            common.print_fields(
                {"measured, ms [95 %]": interval(view), "verdict": view["summary"]["verdict"]}
            )


def _print_job(job: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return common.print_json(job)
    common.print_fields(
        {name: job[name] for name in ("id", "kind", "state", "created_at", "finished_at")}
    )
    if job["failure"]:
        common.print_fields(
            {"failure": job["failure"]["kind"], "message": job["failure"]["message"]}
        )
    return common.print_table(
        job["attempts"],
        [
            ("attempt", "id"),
            ("number", "number"),
            ("agent", "agent_id"),
            ("state", "state"),
            ("leased", common.moment("leased_at")),
            ("failure", "failure_kind"),
        ],
        "No agent has taken it yet.",
    )
