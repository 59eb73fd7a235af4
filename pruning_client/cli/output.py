"""Output of results."""

from __future__ import annotations

from pruning_client.reports.schema import Front
from pruning_client.reports.terminal import print_front


def show_front(front: Front, *, as_json: bool) -> None:
    """Print several runs, as a table or as JSON."""
    if as_json:
        print(front.model_dump_json(indent=2))
    else:
        print_front(front)
