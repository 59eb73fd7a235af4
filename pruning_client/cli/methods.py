"""``pruning-client methods``."""

from __future__ import annotations

import json

from rich.table import Table

from pruning_client.cli.options import AsJson
from pruning_client.methods.registry import listed, options_of
from pruning_client.reports.terminal import make_console


def methods(as_json: AsJson = False) -> None:
    """List the pruning methods and their options: built-in ones, and those of other packages."""
    found = listed()
    if as_json:
        rows = [
            {"name": one.name, "package": one.package, "options": options_of(one.method)}
            for one in found
        ]
        print(json.dumps(rows, indent=2))
        return
    table = Table("method", "package", "options and their defaults")
    for one in found:
        options = ", ".join(f"{name}={value}" for name, value in options_of(one.method).items())
        table.add_row(one.name, one.package or "", options)
    make_console().print(table)
