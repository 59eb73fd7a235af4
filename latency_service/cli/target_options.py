"""Options that describe a target's runtime configuration, and the fields made from them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from latency_service.core import runtimes

PANEL = "Target"
Threads = Annotated[
    int,
    typer.Option(
        "--target-threads",
        min=1,
        max=256,
        help="Number of intra-op threads.",
        rich_help_panel=PANEL,
    ),
]
Batch = Annotated[
    int,
    typer.Option(
        "--target-batch", min=1, max=4096, help="Number of images per run.", rich_help_panel=PANEL
    ),
]
Provider = Annotated[
    str,
    typer.Option(
        "--target-provider", help="ONNX Runtime execution provider.", rich_help_panel=PANEL
    ),
]
Precision = Annotated[
    runtimes.Precision,
    typer.Option("--target-precision", help="Precision of the weights.", rich_help_panel=PANEL),
]


def runtime_fields(
    provider: str, threads: int, batch: int, precision: runtimes.Precision
) -> dict[str, Any]:
    """Fields of the runtime configuration in a request."""
    return {
        "provider": provider,
        "intra_threads": threads,
        "batch": batch,
        "precision": precision,
    }
