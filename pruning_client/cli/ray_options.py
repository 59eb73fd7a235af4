"""Options of the commands that can run on a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pruning_client.pipeline.ray import RayCluster

PANEL = "Cluster"

RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help='Address of a Ray cluster ("auto", "local", "ray://...") to run on.',
        rich_help_panel=PANEL,
    ),
]
RayCpus = Annotated[
    float,
    typer.Option("--ray-cpus", min=0, help="Processors that a task needs.", rich_help_panel=PANEL),
]
RayGpus = Annotated[
    float | None,
    typer.Option(
        "--ray-gpus",
        min=0,
        help="GPUs that a task needs; tasks can share one by fractions.",
        show_default="1 with --torch-device cuda",
        rich_help_panel=PANEL,
    ),
]


def cluster_at(
    address: str | None,
    *,
    model: str,
    cpus: float,
    gpus: float | None,
    storage: Path | None = None,
) -> RayCluster | None:
    """The cluster at an address; None without one."""
    from pruning_client.pipeline.ray import RayCluster

    if address is None:
        return None
    return RayCluster(address, model=model, cpus=cpus, gpus=gpus, storage=storage)
