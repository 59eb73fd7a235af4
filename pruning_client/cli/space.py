"""``pruning-client space``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.output import Output, Table
from pruning_client.cli.input_options import DeployReference, ModelReference, Weights
from pruning_client.cli.settings import deploy_from
from pruning_client.errors import UsageError

if TYPE_CHECKING:
    from pruning_client.graph.space import SearchSpace

_COLUMNS: list[Column[dict[str, Any]]] = [
    Column("group", "name"),
    Column("width", "width"),
    Column("members", "members", wraps=20),
]


def space(
    model: ModelReference,
    input_shape: Annotated[
        str, typer.Option(help='Shape of one image, comma-separated, such as "3,224,224".')
    ],
    output: Output,
    weights: Weights = None,
    deploy: DeployReference = None,
    out: Annotated[Path, typer.Option(help="File to write the search space to.")] = Path(
        "network.space"
    ),
) -> None:
    """Write the search space of a network: its graph without weights, and its width groups.

    `latency-service campaigns create --space FILE` measures it.
    """
    from pruning_client.data.models import load_model
    from pruning_client.graph.space import SearchSpace

    found = SearchSpace.from_model(
        load_model(model, weights), _shape(input_shape), deploy=deploy_from(deploy)
    )
    _save(found, out)
    rows = [
        {"name": group.name, "width": group.width, "members": group.members}
        for group in found.groups
    ]
    fields = {"file": str(out)}
    kept = dict(found.manifest.unprunable)
    output.record(
        {**fields, "groups": rows, "kept at full width": kept},
        {**fields, **{f"{layer} keeps its width": reason for layer, reason in kept.items()}},
        Table(rows=rows, columns=_COLUMNS, empty="No layer can be pruned."),
    )
    output.remark(f"\nNext:\n  latency-service campaigns create --space {out} --watch")


def _save(found: SearchSpace, out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        found.save(out)
    except OSError as error:
        raise UsageError(
            f"{out} cannot be written: {error.strerror}.", "Choose another file with --out."
        ) from error


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a comma-separated list of integers", param_hint="--input-shape"
        ) from error
