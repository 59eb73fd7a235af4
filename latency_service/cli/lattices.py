"""``latency-service lattices``: the widths that are worth using on a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import DeviceFilter, Server, Token
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.terminal import completion
from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output, Table
from latency_service.core.text import in_runs

if TYPE_CHECKING:
    from latency_service.lattices.schemas import KindLattice, LatticeView

lattices = common.group("lattices", "The widths that are worth using on a target.")

_COLUMNS: list[Column[LatticeView]] = [
    Column("lattice", "id"),
    Column("device", "device"),
    Column("version", "version"),
    Column("kinds", lambda row: [entry.kind for entry in row.lattice.kinds], wraps=20),
    Column("created", "created_at", spare=True),
    Column("target", "target_id", spare=True),
]

_KIND_COLUMNS: list[Column[KindLattice]] = [
    Column("kind of layer", "kind"),
    Column("worthwhile widths", lambda row: _worthwhile(row), wraps=20),
    Column("measured", lambda row: f"{len(row.points)} widths"),
]


@lattices.command("list")
@shows
def list_lattices(
    output: Output,
    device: DeviceFilter = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """All lattices."""
    with common.connect(server, token) as client:
        rows = client.lattices(device=device)
    output.table(rows, _COLUMNS, "No lattice yet: the first campaign on a target finds it.")


@lattices.command("show")
@shows
def show_lattice(
    lattice: Annotated[
        str, typer.Argument(help="Id of the lattice.", autocompletion=completion.lattices)
    ],
    output: Output,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """One lattice: the widths worth using, for each kind of layer.

    CSV has the kinds of layers.
    """
    with common.connect(server, token) as client:
        view = client.lattice(lattice)
    fields = common.fields_of(view, "id", "device", "target_id", "version", "created_at")
    kinds = Table(rows=view.lattice.kinds, columns=_KIND_COLUMNS, empty="Nothing was swept.")
    output.record(view, fields, kinds)


def _worthwhile(kind: KindLattice) -> str:
    swept = [width for width in range(kind.narrowest, kind.widest + 1) if kind.is_worthwhile(width)]
    return (
        f"{in_runs(swept)}, then {f'multiples of {kind.step}' if kind.step > 1 else 'every width'}"
    )
