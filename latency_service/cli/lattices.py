"""``latency-service lattices``: the widths that are worth using on a target."""

from __future__ import annotations

from latency_service.cli import common
from latency_service.cli.common import DeviceFilter, Json, Server, Token
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.text import in_runs
from latency_service.lattices.schemas import KindLattice, LatticeView

lattices = common.group("lattices", "The widths that are worth using on a target.")

_COLUMNS: list[common.Column[LatticeView]] = [
    ("lattice", "id"),
    ("device", "device"),
    ("version", "version"),
    ("target", "target_id"),
    ("kinds", lambda row: [entry.kind for entry in row.lattice.kinds]),
    ("created", "created_at"),
]

_KIND_COLUMNS: list[common.Column[KindLattice]] = [
    ("kind of layer", "kind"),
    ("worthwhile widths", lambda row: _worthwhile(row)),
    ("measured", lambda row: f"{len(row.points)} widths"),
]


@lattices.command("list")
def list_lattices(
    device: DeviceFilter = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """All lattices."""
    with common.connect(server, token) as client:
        rows = client.lattices(device=device)
    if as_json:
        return common.print_json(rows)
    return common.print_table(
        rows,
        _COLUMNS,
        "No lattice yet: the first campaign on a target finds it.",
    )


@lattices.command("show")
def show_lattice(
    lattice: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """One lattice: the widths worth using, for each kind of layer."""
    with common.connect(server, token) as client:
        view = client.lattice(lattice)
    if as_json:
        return common.print_json(view)
    common.print_fields(
        common.fields_of(view, "id", "device", "target_id", "version", "created_at")
    )
    return common.print_table(
        view.lattice.kinds,
        _KIND_COLUMNS,
        "Nothing was swept.",
    )


def _worthwhile(kind: KindLattice) -> str:
    swept = [width for width in range(kind.narrowest, kind.widest + 1) if kind.is_worthwhile(width)]
    return (
        f"{in_runs(swept)}, then {f'multiples of {kind.step}' if kind.step > 1 else 'every width'}"
    )
