"""``latency-service enrolments``: tokens that let a machine become a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import Json, Server, Token
from latency_service.core.credentials import DEFAULT_URL

enrolments = common.group("enrolments", "Tokens that let a machine become a device.")


@enrolments.command("create")
def create_enrolment(
    output: Annotated[
        Path | None, typer.Option(help="Write the token to this file, readable by its owner only.")
    ] = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Make an enrolment token; it is shown once."""
    with common.connect(server, token) as client:
        enrolment = client.create_enrolment()
    if output is not None:
        common.write_output(output, (enrolment.token + "\n").encode(), mode=0o600)
    if as_json:
        return common.print_json(enrolment)
    shown = str(output) if output else enrolment.token
    option = "--token-file" if output else "--token"
    common.print_fields({"token": shown, "expires": enrolment.expires_at})
    print(f"\nOn the device:\n  latency-service agent --server {server} {option} {shown}")
    return None
