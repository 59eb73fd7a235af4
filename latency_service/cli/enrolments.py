"""``latency-service enrolments``: tokens that let a machine become a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latency_service.auth.schemas import EnrolmentRequest
from latency_service.cli import common
from latency_service.cli.common import Json, Server, Token
from latency_service.core.credentials import DEFAULT_URL

enrolments = common.group("enrolments", "Tokens that let a machine become a device.")


@enrolments.command("create")
def create_enrolment(
    device: Annotated[
        str | None,
        typer.Option(
            help="The only device that it may register, new or known. To let an agent join or "
            "replace that of a known device, name it here.",
            show_default="any new name",
            rich_help_panel="Enrolment",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the token to this file, readable by its owner only.")
    ] = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Make an enrolment token, with which one machine registers once; it is shown once."""
    common.request_of(EnrolmentRequest, {"device": device})
    with common.connect(server, token) as client:
        enrolment = client.create_enrolment(device)
    if output is not None:
        common.write_output(output, (enrolment.token + "\n").encode(), mode=0o600)
    if as_json:
        return common.print_json(enrolment)
    shown = str(output) if output else enrolment.token
    option = "--token-file" if output else "--token"
    bound = enrolment.device or "any new one"
    common.print_fields({"token": shown, "device": bound, "expires": enrolment.expires_at})
    name = f" --name {device}" if device else ""
    print(f"\nOn the device:\n  latency-service agent --server {server} {option} {shown}{name}")
    return None
