"""``latency-service enrolments``: tokens that let a machine become a device."""

from __future__ import annotations

from typing import Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import Server, Token
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.terminal import completion
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output

enrolments = common.group("enrolments", "Tokens that let a machine become a device.")


@enrolments.command("create")
@shows
def create_enrolment(
    output: Output,
    device: Annotated[
        str | None,
        typer.Option(
            help="The only device that it may register, new or known. To let an agent join or "
            "replace that of a known device, name it here.",
            show_default="any new name",
            autocompletion=completion.devices,
            rich_help_panel="Enrolment",
        ),
    ] = None,
    file: common.SecretFile = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Make an enrolment token, with which one machine registers once; it is shown once."""
    from latency_service.auth.schemas import EnrolmentRequest

    common.request_of(EnrolmentRequest, {"device": device})
    with common.connect(server, token) as client:
        enrolment = client.create_enrolment(device)
    common.write_secret(file, enrolment.token)
    shown = str(file) if file else enrolment.token
    option = "--token-file" if file else "--token"
    bound = enrolment.device or "any new one"
    output.record(enrolment, {"token": shown, "device": bound, "expires": enrolment.expires_at})
    name = f" --name {device}" if device else ""
    output.remark(
        f"\nOn the device:\n  latency-service agent --server {server} {option} {shown}{name}"
    )
