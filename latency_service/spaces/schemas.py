"""The manifest of a search space, and its wire schemas."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Segment(BaseModel):
    """A run of positions on an axis: position p of it belongs to channel ``start + step * (p //
    repeat)``.

    ``group`` is an index into the manifest's groups, or -1 for positions that are never removed.
    """

    model_config = ConfigDict(frozen=True)

    group: int = Field(ge=-1)
    start: int = Field(0, ge=0)
    step: int = Field(1, ge=0)
    count: int = Field(ge=1, description="channels in this run")
    repeat: int = Field(1, ge=1, description="consecutive positions for each channel")


Segments = Annotated[list[Segment], Field(min_length=1)]


class WidthGroup(BaseModel):
    """Layers whose channels must be removed together."""

    model_config = ConfigDict(frozen=True)

    name: str
    width: int = Field(ge=1, description="channels at full width")
    minimum: int = Field(ge=1)
    unit: int = Field(
        1,
        ge=1,
        description=(
            "filters of the producing layer per channel (more than 1 for grouped convolutions)"
        ),
    )
    members: list[str] = Field(description="modules that produce these channels")


class AxisSlice(BaseModel):
    """An axis of an initializer whose size depends on widths."""

    model_config = ConfigDict(frozen=True)

    initializer: str
    axis: int = Field(ge=0)
    segments: Segments


class ShapeValue(BaseModel):
    """A number in the graph that depends on widths: ``kept positions / divisor``.

    ``node`` and ``attribute`` name a node's attribute (``group`` of a grouped Conv); otherwise
    ``initializer`` names an int64 constant (the shape of a Reshape, the sizes of a Split, the pads
    of a Pad). ``index`` picks the element.
    """

    model_config = ConfigDict(frozen=True)

    node: str | None = None
    attribute: str | None = None
    initializer: str | None = None
    index: int | None = None
    divisor: int = Field(1, ge=1)
    segments: list[Segment] = Field(description="positions counted; empty counts as 0")


class Manifest(BaseModel):
    format: int = 1
    name: str
    groups: list[WidthGroup]
    slices: list[AxisSlice]
    values: list[ShapeValue]
    unprunable: dict[str, str] = Field(
        default_factory=dict, description="layers left at full width, each with the reason"
    )


class SpaceView(BaseModel):
    id: str = Field(description="SHA-256 of graph.onnx")
    name: str
    groups: list[WidthGroup]
    opset: int
    inputs: dict[str, list[int | str]]
    bytes: int
    parameters: int = Field(description="at full width")
    macs: int = Field(description="multiply-accumulates at full width, batch 1")
    created_at: datetime
