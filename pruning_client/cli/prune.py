"""``pruning-client prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pruning_client.cli import exits
from pruning_client.cli.options import Options, Resume

BUDGET_FORMS = '"1.2ms", "800us", or "60%" of the dense network\'s measured latency'


def prune(
    options: Options,
    budget: Annotated[str, typer.Option(help=f"Latency budget: {BUDGET_FORMS}.")],
    out: Annotated[Path, typer.Option(help="Folder for the report and the pruned network.")] = Path(
        "runs/prune"
    ),
    resume: Resume = False,
) -> None:
    """Prune a trained network until it meets the budget on the target, as measured."""
    from pruning_client.execution import distributed
    from pruning_client.pipeline.prune import prune_request
    from pruning_client.reports.progress_bars import ProgressBars
    from pruning_client.reports.terminal import print_report
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
    if is_first and options.as_json:
        print(result.report.model_dump_json(indent=2))
    elif is_first:
        print_report(result.report)
        for name in result.report.files.values():
            print(out / name)
    raise typer.Exit(exits.OF_OUTCOME[result.report.outcome])
