"""Output of results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latency_service.core.terminal.output import Output

if TYPE_CHECKING:
    from pruning_client.reports.schema import Front


def show_front(front: Front, output: Output) -> None:
    """Print several runs; CSV has the runs."""
    from pruning_client.reports.terminal import FRONT_COLUMNS, print_front

    if output.is_text:
        print_front(front)
    elif output.form == "csv":
        output.table(front.points, FRONT_COLUMNS, "")
    else:
        output.fields(front.model_dump(mode="json"))
