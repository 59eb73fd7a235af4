"""``latency-service spaces``: networks without their weights, and their width groups."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import Json, Server, Token
from latency_service.core.credentials import DEFAULT_URL
from latency_service.spaces.schemas import SpaceView

spaces = common.group("spaces", "Networks without their weights, and their width groups.")

_COLUMNS: list[common.Column[SpaceView]] = [
    ("space", lambda row: row.id[:12]),
    ("name", "name"),
    ("groups", lambda row: len(row.groups)),
    ("parameters", "parameters"),
    ("MACs", "macs"),
    ("opset", "opset"),
    ("bytes", "bytes"),
    ("created", "created_at"),
]


@spaces.command("list")
def list_spaces(server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False) -> None:
    """All search spaces."""
    with common.connect(server, token) as client:
        rows = client.spaces()
    if as_json:
        return common.print_json(rows)
    return common.print_table(
        rows,
        _COLUMNS,
        "No space yet: make one with `latency-service spaces create FILE`.",
    )


@spaces.command("show")
def show_space(
    space: Annotated[str, typer.Argument(help="Id of the space, or a unique prefix of it.")],
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """One search space and its width groups."""
    with common.connect(server, token) as client:
        view = client.space_view(space)
    if as_json:
        return common.print_json(view)
    common.print_fields(
        common.fields_of(view, "id", "name", "opset", "parameters", "macs", "bytes")
    )
    common.print_fields(
        {f"input {name}": " x ".join(map(str, dims)) for name, dims in view.inputs.items()}
    )
    return common.print_table(
        view.groups,
        [("group", "name"), ("width", "width"), ("minimum", "minimum"), ("members", "members")],
        "The space has no width group.",
    )


@spaces.command("create")
def create_space(
    file: Annotated[
        Path, typer.Argument(help="Space file, as pruning_client.SearchSpace saves it.")
    ],
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Upload a search space; one that the service knows stays as it is."""
    content = common.read_input(file)
    with common.connect(server, token) as client:
        view, is_new = client.upload_space(content)
    if as_json:
        return common.print_json(view)
    common.print_fields({"id": view.id, "name": view.name, "new": is_new})
    print(
        f"\nNext:\n  latency-service campaigns create --space {view.id[:12]} --device NAME --watch"
    )
    return None
