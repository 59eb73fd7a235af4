"""``pruning-client report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.output import Output
from pruning_client.cli.options import Server, Token


def report(
    run: Annotated[
        str,
        typer.Argument(
            help="Folder of a finished job or comparison, or id of a run of the service."
        ),
    ],
    output: Output,
    out: Annotated[
        Path | None,
        typer.Option(
            help="HTML file to write: all in one, opens offline.",
            show_default="report.html, unless another file is asked for",
        ),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Picture to write of its first screen.")] = None,
    pdf: Annotated[Path | None, typer.Option(help="PDF file to write.")] = None,
    server: Server = None,
    token: Token = None,
) -> None:
    """Write the report of a finished job again: as a page, a picture or a PDF."""
    from latency_service.core import browser
    from latency_service.core.client import Client
    from pruning_client.errors import Missing, UsageError
    from pruning_client.pipeline.saved import page_of

    with Client(server, token) as client:
        page = page_of(run, client)
    try:
        written = browser.write(page, out, png=png, pdf=pdf)
    except browser.NoBrowser as error:
        raise Missing(error.message, error.cure) from error
    except OSError as error:
        raise UsageError(
            f"{error.filename} cannot be written: {error.strerror}.", "Give another path."
        ) from error
    output.table([str(path) for path in written], [Column("file", str)], "Nothing was written.")
