"""Wire schemas of deleting."""

from __future__ import annotations

from pydantic import BaseModel


class Forgotten(BaseModel):
    """Numbers of rows that were deleted."""

    device: str
    measurements: int
    predictors: int
    lattices: int
