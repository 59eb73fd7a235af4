"""``pruning-client compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latency_service.core.terminal import completion
from latency_service.core.terminal.output import Output
from pruning_client.cli.options import Server, Token
from pruning_client.cli.output import show_front


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Folders with a report.json, or ids of runs of the service.",
            autocompletion=completion.runs,
        ),
    ],
    output: Output,
    out: Annotated[
        Path | None, typer.Option(help="Page to write the comparison to; it opens offline.")
    ] = None,
    server: Server = None,
    token: Token = None,
) -> None:
    """Compare finished runs: method, budget, measured latency, accuracy and command."""
    from latency_service.core.client import Client
    from pruning_client.pipeline import compare as comparison
    from pruning_client.reports.html import render_front

    with Client(server, token) as client:
        front = comparison.compare(runs, client)
    if out is not None:
        out.write_text(render_front(front))
    show_front(front, output)
