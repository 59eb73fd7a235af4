"""``pruning-client methods``."""

from __future__ import annotations

from typing import Any

from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.output import Output

_COLUMNS: list[Column[dict[str, Any]]] = [
    Column("method", "name"),
    Column("package", "package", spare=True),
    Column("options and their defaults", lambda row: _written(row["options"]), wraps=40),
]


def methods(output: Output) -> None:
    """List the pruning methods and their options: built-in ones, and those of other packages."""
    from pruning_client.methods.registry import listed, options_of

    rows = [
        {"name": one.name, "package": one.package, "options": options_of(one.method)}
        for one in listed()
    ]
    output.table(rows, _COLUMNS, "No method.")


def _written(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())
