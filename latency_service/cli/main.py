"""The command ``latency-service``: every noun and every part in one place, errors as exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from latency_service import __version__
from latency_service.cli import backups, common, measuring, running, sharing
from latency_service.cli.campaigns import campaigns
from latency_service.cli.dashboard import dashboard
from latency_service.cli.database import db
from latency_service.cli.devices import devices
from latency_service.cli.enrolments import enrolments
from latency_service.cli.lattices import lattices
from latency_service.cli.measurements import measurements
from latency_service.cli.predictors import predictors
from latency_service.cli.report import report
from latency_service.cli.runs import runs
from latency_service.cli.spaces import spaces
from latency_service.cli.tokens import audit, tokens
from latency_service.cli.up import up
from latency_service.cli.verifications import verifications
from latency_service.core import exit_codes
from latency_service.core.errors import ServiceError
from latency_service.core.parents import die_with_parent
from latency_service.core.terminal.output import report_error
from latency_service.core.transport import ApiError

app = typer.Typer(
    help="Measure pruned architectures on real devices, and serve predictors of their latency.",
    epilog=exit_codes.epilog(),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


for command in (
    up,
    dashboard,
    running.serve,
    running.agent,
    running.trainer,
    measuring.doctor,
    measuring.measure,
    report,
    audit,
    backups.backup,
    backups.restore,
    sharing.export,
    sharing.drop_rounds,
):
    app.command(epilog=exit_codes.epilog())(command)
app.command("import", epilog=exit_codes.epilog())(sharing.import_)
for noun in (
    devices,
    enrolments,
    tokens,
    spaces,
    campaigns,
    predictors,
    measurements,
    lattices,
    verifications,
    runs,
    db,
):
    app.add_typer(noun)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code; `arguments` default to the command line's."""
    die_with_parent()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(words, prog_name="latency-service")
    except (common.CommandError, ApiError, ServiceError) as error:
        report_error(error.message, error.cure, error.code, as_json="--json" in words)
        sys.exit(common.exit_code_of(error))
