"""``latency-service spaces``: networks without their weights, and their width groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import Server, Token
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.terminal import completion
from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output, Table

if TYPE_CHECKING:
    from latency_service.spaces.schemas import SpaceView, WidthGroup

spaces = common.group("spaces", "Networks without their weights, and their width groups.")

_COLUMNS: list[Column[SpaceView]] = [
    Column("space", "id", length=12),
    Column("name", "name"),
    Column("groups", lambda row: len(row.groups)),
    Column("parameters", "parameters"),
    Column("MACs", "macs"),
    Column("created", "created_at", spare=True),
    Column("opset", "opset", spare=True),
    Column("bytes", "bytes", spare=True),
]

_GROUP_COLUMNS: list[Column[WidthGroup]] = [
    Column("group", "name"),
    Column("width", "width"),
    Column("minimum", "minimum"),
    Column("members", "members", wraps=20),
]


@spaces.command("list")
@shows
def list_spaces(output: Output, server: Server = DEFAULT_URL, token: Token = None) -> None:
    """All search spaces."""
    with common.connect(server, token) as client:
        rows = client.spaces()
    output.table(
        rows, _COLUMNS, "No space yet: make one with `latency-service spaces create FILE`."
    )


@spaces.command("show")
@shows
def show_space(
    space: Annotated[
        str,
        typer.Argument(
            help="Id of the space, or a unique prefix of it.", autocompletion=completion.spaces
        ),
    ],
    output: Output,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """One search space and its width groups.

    CSV has the width groups.
    """
    with common.connect(server, token) as client:
        view = client.space_view(space)
    inputs = {f"input {name}": " x ".join(map(str, dims)) for name, dims in view.inputs.items()}
    fields = common.fields_of(view, "id", "name", "opset", "parameters", "macs", "bytes")
    groups = Table(rows=view.groups, columns=_GROUP_COLUMNS, empty="The space has no width group.")
    output.record(view, {**fields, **inputs}, groups)


@spaces.command("create")
@shows
def create_space(
    file: Annotated[
        Path,
        typer.Argument(
            help="Space file, as `pruning-client space` or pruning_client.SearchSpace writes it."
        ),
    ],
    output: Output,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Upload a search space; one that the service knows stays as it is."""
    content = common.read_input(file)
    with common.connect(server, token) as client:
        view, is_new = client.upload_space(content)
    output.record(view, {"id": view.id, "name": view.name, "new": is_new})
    output.remark(
        f"\nNext:\n  latency-service campaigns create --space {view.id[:12]} --device NAME --watch"
    )
