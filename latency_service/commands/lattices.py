"""``latency-service lattices``: the widths that are worth using on a target."""

from __future__ import annotations

from typing import Annotated

import typer

from latency_service.commands import common
from latency_service.commands.common import DEFAULT_URL, Json, Server, Token

lattices = common.group("lattices", "The widths that are worth using on a target.")


@lattices.command("list")
def list_lattices(
    device: Annotated[str | None, typer.Option(help="Of this device only.")] = None,
    server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False,
) -> None:  # fmt: skip
    """All lattices."""
    rows = common.fetch(server, token, "/v1/lattices", device=device)
    if as_json:
        return common.print_json(rows)
    return common.print_table(
        rows,
        [("lattice", "id"), ("device", "device"), ("version", "version"), ("target", "target_id"),
         ("kinds", lambda row: [entry["kind"] for entry in row["lattice"]["kinds"]]),
         ("created", common.moment("created_at"))],
        "No lattice yet: the first campaign on a target finds it.",
    )  # fmt: skip


@lattices.command("show")
def show_lattice(lattice: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False) -> None:
    """One lattice: the step of each kind of layer, and the widths swept."""
    view = common.fetch(server, token, f"/v1/lattices/{common.segment(lattice)}")
    if as_json:
        return common.print_json(view)
    common.print_fields({key: view[key] for key in ("id", "device", "target_id", "version", "created_at")})
    return common.print_table(
        view["lattice"]["kinds"],
        [("kind of layer", "kind"), ("step", "step"),
         ("worthwhile", lambda row: [point["width"] for point in row["points"] if not point["dominated"]]),
         ("dominated", lambda row: [point["width"] for point in row["points"] if point["dominated"]])],
        "Nothing was swept.",
    )  # fmt: skip
