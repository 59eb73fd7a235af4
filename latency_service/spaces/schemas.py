"""The manifest of a search space, and its wire schemas."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Largest number in a manifest: sizes in ONNX graphs stay far below.
_MOST = 2**31 - 1
Count = Annotated[int, Field(ge=1, le=_MOST)]
Index = Annotated[int, Field(ge=0, le=_MOST)]
Name = Annotated[str, Field(max_length=1000)]


class Segment(BaseModel):
    """A run of positions on an axis: position p of it belongs to channel ``start + step * (p //
    repeat)``.

    ``group`` is an index into the manifest's groups, or -1 for positions that are never removed.
    """

    model_config = ConfigDict(frozen=True)

    group: int = Field(ge=-1, le=_MOST)
    start: Index = 0
    step: Index = 1
    count: Count = Field(description="channels in this run")
    repeat: Count = Field(1, description="consecutive positions for each channel")


Segments = Annotated[list[Segment], Field(min_length=1)]


class WidthGroup(BaseModel):
    """Layers whose channels must be removed together."""

    model_config = ConfigDict(frozen=True)

    name: Name
    width: Count = Field(description="channels at full width")
    minimum: Count
    unit: Count = Field(
        1,
        description=(
            "filters of the producing layer per channel (more than 1 for grouped convolutions)"
        ),
    )
    members: list[Name] = Field(description="modules that produce these channels")


class AxisSlice(BaseModel):
    """An axis of an initializer whose size depends on widths."""

    model_config = ConfigDict(frozen=True)

    initializer: Name
    axis: Index
    segments: Segments


class ShapeValue(BaseModel):
    """A number in the graph that depends on widths: ``kept positions / divisor``.

    ``node`` and ``attribute`` name a node's attribute (``group`` of a grouped Conv); otherwise
    ``initializer`` names an int64 constant (the shape of a Reshape, the sizes of a Split, the pads
    of a Pad). ``index`` picks the element.
    """

    model_config = ConfigDict(frozen=True)

    node: Name | None = None
    attribute: Name | None = None
    initializer: Name | None = None
    index: Index | None = None
    divisor: Count = 1
    segments: list[Segment] = Field(description="positions counted; empty counts as 0")


class Manifest(BaseModel):
    format: Literal[1] = 1
    name: str = Field(max_length=200)
    groups: list[WidthGroup] = Field(max_length=4000)
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
