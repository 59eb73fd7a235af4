"""``pruning-client space``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pruning_client.cli.input_options import DeployReference, ModelReference, Weights
from pruning_client.cli.settings import deploy_from
from pruning_client.errors import UsageError

if TYPE_CHECKING:
    from pruning_client.graph.space import SearchSpace


def space(
    model: ModelReference,
    input_shape: Annotated[
        str, typer.Option(help='Shape of one image, comma-separated, such as "3,224,224".')
    ],
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
    for group in found.groups:
        print(f"{group.width:5} channels  {', '.join(group.members)}")
    for layer, reason in found.manifest.unprunable.items():
        print(f"full width      {layer}: {reason}")
    print(out)


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
