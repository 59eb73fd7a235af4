"""Wire schemas of deleting."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Forgotten(BaseModel):
    """Numbers of rows that were deleted."""

    device: str
    measurements: int
    predictors: int
    lattices: int
    retrained: int = Field(
        0, description="predictors of other devices that had learned from them and are trained anew"
    )
