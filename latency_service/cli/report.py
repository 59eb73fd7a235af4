"""``latency-service report``: a predictor, a campaign or a target as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import Server, Token
from latency_service.core import exit_codes
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output

_FILES = "Files"
Page = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="HTML file to write: all in one, opens offline.",
        show_default="report.html, unless another file is asked for",
        rich_help_panel=_FILES,
    ),
]
Png = Annotated[
    Path | None,
    typer.Option("--png", help="Picture to write of its first screen.", rich_help_panel=_FILES),
]
Pdf = Annotated[
    Path | None,
    typer.Option("--pdf", help="PDF file to write.", rich_help_panel=_FILES),
]


@shows
def report(
    subject: Annotated[
        str,
        typer.Argument(metavar="ID", help="Id of a predictor, a campaign or a target."),
    ],
    output: Output,
    out: Page = None,
    png: Png = None,
    pdf: Pdf = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Write a report that opens offline: errors, intervals, baselines, canaries and where all of
    it was measured.
    """
    from latency_service.core import browser

    with common.connect(server, token) as client:
        page = client.report(subject)
    try:
        written = browser.write(page, out, png=png, pdf=pdf)
    except browser.NoBrowser as error:
        raise common.CommandError(
            error.message, error.cure, exit_code=exit_codes.MISSING, code="no_browser"
        ) from error
    except OSError as error:
        raise common.CommandError(
            f"{error.filename} cannot be written: {error.strerror}.", "Give another path."
        ) from error
    output.table([str(path) for path in written], [Column("file", str)], "Nothing was written.")
