"""``pruning-client report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pruning_client.cli.options import AsJson, Server, Token


def report(
    run: Annotated[
        str,
        typer.Argument(
            help="Folder of a finished job or comparison, or id of a run of the service."
        ),
    ],
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
    as_json: AsJson = False,
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
    if as_json:
        print(json.dumps({"files": [str(path) for path in written]}))
        return
    for path in written:
        print(path)
