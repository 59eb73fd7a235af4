"""What the pages of search spaces show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, Field

from latency_service.core.text import in_runs
from latency_service.dashboard.places import Place, place_of
from latency_service.dashboard.predictors.views import PredictorRow, row_of
from latency_service.dashboard.spaces.graph import MOST_BOXES, Graph
from latency_service.predictors.models import StoredPredictor
from latency_service.predictors.schemas import Sidecar
from latency_service.spaces.models import Space
from latency_service.spaces.schemas import WidthGroup


class SpaceRow(BaseModel):
    """A search space in a list."""

    id: str
    name: str
    groups: int
    parameters: int
    macs: int
    input: str
    predictors: int
    created_at: datetime


class SpaceList(BaseModel):
    spaces: list[SpaceRow]


class GroupRow(BaseModel):
    """A width group, in channels."""

    number: int = Field(description="from 1, as in the graph")
    name: str
    full: int
    minimum: int
    unit: int = Field(description="filters per channel")
    members: list[str]
    kinds: list[str] = Field(description="kinds of its layers, which decide its lattice")
    lattice: list[int] | None = Field(description="None while no target's lattice is known")
    lattice_text: str


class Pinned(BaseModel):
    """A layer that is left at full width."""

    layer: str
    reason: str


class SpacePage(BaseModel):
    """One search space."""

    id: str
    name: str
    created_at: datetime
    inputs: dict[str, list[int | str]]
    opset: int
    size_bytes: int
    parameters: int
    macs: int
    architectures: float = Field(description="number of width vectors, on the lattice if known")
    groups: list[GroupRow]
    pinned: list[Pinned]
    lattice_of: Place | None = Field(description="the target whose lattice is shown")
    predictors: list[PredictorRow] = Field(description="the newest on each target")
    boxes: int = Field(description="number of layers and meetings of branches")
    nodes: int = Field(description="operators in the file")
    graph: Graph | None = Field(description=f"None above {MOST_BOXES} boxes")


def space_row(space: Space, predictors: int) -> SpaceRow:
    return SpaceRow(
        id=space.id,
        name=space.name,
        groups=len(space.groups),
        parameters=space.parameters,
        macs=space.macs,
        input=input_text(space.inputs),
        predictors=predictors,
        created_at=space.created_at,
    )


def page_of(
    space: Space,
    graph: Graph,
    kinds: Sequence[Sequence[str]],
    unprunable: dict[str, str],
    predictors: Sequence[StoredPredictor],
    chosen: StoredPredictor | None,
) -> SpacePage:
    """Everything about one space.

    Args:
        kinds: kinds of the layers of each group [G][...].
        unprunable: reason of each layer that stays at full width.
        predictors: the newest on each target.
        chosen: the one of them whose lattice is shown.
    """
    lattice = None if chosen is None else Sidecar.model_validate(chosen.sidecar).lattice
    groups = [
        group_row(number, WidthGroup.model_validate(group), kinds[number - 1], lattice)
        for number, group in enumerate(space.groups, 1)
    ]
    return SpacePage(
        id=space.id,
        name=space.name,
        created_at=space.created_at,
        inputs=space.inputs,
        opset=space.opset,
        size_bytes=space.size_bytes,
        parameters=space.parameters,
        macs=space.macs,
        architectures=_count(groups),
        groups=groups,
        pinned=[Pinned(layer=layer, reason=reason) for layer, reason in unprunable.items()],
        lattice_of=None if chosen is None else place_of(chosen.target),
        predictors=[row_of(row, space.name) for row in predictors],
        boxes=len(graph.boxes),
        nodes=graph.nodes,
        graph=graph if len(graph.boxes) <= MOST_BOXES else None,
    )


def group_row(
    number: int, group: WidthGroup, kinds: Sequence[str], lattice: list[list[int]] | None
) -> GroupRow:
    widths = None if lattice is None else lattice[number - 1]
    return GroupRow(
        number=number,
        name=group.name,
        full=group.width,
        minimum=group.minimum,
        unit=group.unit,
        members=group.members,
        kinds=list(kinds),
        lattice=widths,
        lattice_text="" if widths is None else in_runs(widths),
    )


def input_text(inputs: dict[str, list[int | str]]) -> str:
    """Shapes of the inputs, such as ``batch×3×32×32``."""
    return ", ".join("×".join(str(size) for size in shape) for shape in inputs.values())


def _count(groups: Sequence[GroupRow]) -> float:
    count = 1.0
    for group in groups:
        count *= len(group.lattice) if group.lattice else group.full - group.minimum + 1
    return count
