"""``pruning-client prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latency_service.core.terminal.output import Output
from pruning_client.cli import exits
from pruning_client.cli.options import Options, Resume

BUDGET_FORMS = '"1.2ms", "800us", or "60%" of the dense network\'s measured latency'


def prune(
    options: Options,
    budget: Annotated[str, typer.Option(help=f"Latency budget: {BUDGET_FORMS}.")],
    output: Output,
    out: Annotated[Path, typer.Option(help="Folder for the report and the pruned network.")] = Path(
        "runs/prune"
    ),
    resume: Resume = False,
) -> None:
    """Prune a trained network until it meets the budget on the target, as measured."""
    from pruning_client.execution import distributed
    from pruning_client.pipeline.prune import prune_request
    from pruning_client.reports.progress_bars import ProgressBars
    from pruning_client.reports.terminal import REPORT_COLUMNS, print_report, report_rows
    from pruning_client.service.connection import announce, connected

    with distributed.opened():
        is_first = distributed.rank() == 0
        request = options.request()
        with (
            ProgressBars(quiet=not is_first) as bars,
            connected(None, announce, url=options.server, token=options.token) as client,
        ):
            result = prune_request(
                request,
                budget,
                client=client,
                out_dir=out,
                progress=bars,
                resume=resume or distributed.restarted(),
            )
    report = result.report
    if is_first and output.is_text:
        print_report(report)
        for name in report.files.values():
            print(out / name)
    elif is_first and output.form == "csv":
        output.table(report_rows(report), REPORT_COLUMNS, "")
    elif is_first:
        output.fields(report.model_dump(mode="json"))
    raise typer.Exit(exits.OF_OUTCOME[report.outcome])
