"""``latency-service dashboard``: a link that opens the dashboard, signed in."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import Server, Token
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output

Open = Annotated[
    bool,
    typer.Option(
        "--open",
        help="Open the dashboard in this machine's web browser.",
        rich_help_panel="This machine",
    ),
]


@shows
def dashboard(
    output: Output,
    open_browser: Open = False,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Print a link that opens the dashboard and signs the browser in, once, within ten minutes."""
    with common.connect(server, token) as client:
        code = client.create_sign_in_code()
    link = server.rstrip("/") + code.path
    if open_browser and not webbrowser.open(link):
        raise common.CommandError(
            "No web browser can be opened on this machine.",
            f"Open this link where there is one: {link}",
        )
    if output.is_text:
        print(link)
    else:
        output.fields({"url": link, "expires_at": code.expires_at.isoformat()})
