"""``pruning-client sweep`` and ``pruning-client fastest``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latency_service.core import exit_codes
from latency_service.core.terminal.output import Output
from pruning_client.cli.options import Options, Resume
from pruning_client.cli.output import show_front
from pruning_client.cli.prune import BUDGET_FORMS
from pruning_client.cli.ray_options import PANEL, RayAddress, RayCpus, RayGpus, cluster_at


def sweep(
    options: Options,
    budgets: Annotated[
        str, typer.Option(help=f"Latency budgets, comma-separated, each {BUDGET_FORMS}.")
    ],
    output: Output,
    out: Annotated[
        Path, typer.Option(help="Folder for the front, with a folder for each budget.")
    ] = Path("runs/sweep"),
    ray: RayAddress = None,
    ray_cpus: RayCpus = 1.0,
    ray_gpus: RayGpus = None,
    ray_storage: Annotated[
        Path | None,
        typer.Option(
            help="Folder of checkpoints that all machines of the cluster have at the same path.",
            show_default="the folder of --out with --ray local",
            rich_help_panel=PANEL,
        ),
    ] = None,
    resume: Resume = False,
) -> None:
    """Prune for several budgets and draw the Pareto front of accuracy against measured latency."""
    from pruning_client.pipeline.sweep import sweep_request
    from pruning_client.reports.progress_bars import ProgressBars
    from pruning_client.service.connection import announce, connected

    request = options.request()
    cluster = cluster_at(
        ray, model=options.model, cpus=ray_cpus, gpus=ray_gpus, storage=ray_storage
    )
    with (
        ProgressBars() as bars,
        connected(None, announce, url=options.server, token=options.token) as client,
    ):
        front = sweep_request(
            request,
            [budget.strip() for budget in budgets.split(",") if budget.strip()],
            client=client,
            out_dir=out,
            progress=bars,
            resume=resume,
            cluster=cluster,
        )
    show_front(front, output)
    is_met = all(point.met for point in front.points) and not front.failures
    raise typer.Exit(0 if is_met else exit_codes.FAILED)


def fastest(
    options: Options,
    max_accuracy_drop: Annotated[
        float, typer.Option(min=0, help="Maximum loss of held-out accuracy, percentage points.")
    ],
    output: Output,
    trials: Annotated[int, typer.Option(min=1, help="Number of budgets to try, by bisection.")] = 5,
    out: Annotated[
        Path, typer.Option(help="Folder for the result, with a folder for each trial.")
    ] = Path("runs/fastest"),
    resume: Resume = False,
) -> None:
    """Find the fastest network within a maximum drop in accuracy."""
    from pruning_client.pipeline.sweep import fastest_request
    from pruning_client.reports.progress_bars import ProgressBars
    from pruning_client.service.connection import announce, connected

    request = options.request()
    with (
        ProgressBars() as bars,
        connected(None, announce, url=options.server, token=options.token) as client,
    ):
        front = fastest_request(
            request,
            max_accuracy_drop=max_accuracy_drop,
            trials=trials,
            client=client,
            out_dir=out,
            progress=bars,
            resume=resume,
        )
    show_front(front, output)
