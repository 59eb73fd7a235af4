"""The lattice of a target: the widths worth using, by kind of layer, and its wire schemas."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class LatticePoint(BaseModel):
    """One width of a sweep over one kind of layer. Latencies in ms."""

    model_config = ConfigDict(frozen=True)

    width: int = Field(ge=1)
    latency_ms: float
    lower_ms: float
    upper_ms: float
    dominated: bool = Field(False, description="a wider width is faster")


class KindLattice(BaseModel):
    """Worthwhile widths of one kind of layer: as measured where it was swept, multiples of `step` elsewhere."""

    model_config = ConfigDict(frozen=True)

    kind: str
    step: int = Field(ge=1)
    points: list[LatticePoint]

    def is_worthwhile(self, filters: int) -> bool:
        """Whether no wider layer of this kind is known to be faster."""
        for point in self.points:
            if point.width == filters:
                return not point.dominated
        return filters % self.step == 0


class Lattice(BaseModel):
    """Worthwhile widths of a target, for each kind of layer that was swept on it."""

    model_config = ConfigDict(frozen=True)

    kinds: list[KindLattice]

    def of(self, kind: str) -> KindLattice | None:
        return next((entry for entry in self.kinds if entry.kind == kind), None)

    def worthwhile(self, kinds: Iterable[str], *, full: int, minimum: int, unit: int = 1) -> list[int]:
        """Widths from `minimum` to `full`, ascending, that are worthwhile for every one of `kinds`.

        Full width always belongs to it: inside its group nothing is wider. `unit` is the number of filters that one
        channel of the group stands for.
        """
        swept = [entry for kind in kinds if (entry := self.of(kind)) is not None]
        widths = [w for w in range(minimum, full) if all(entry.is_worthwhile(w * unit) for entry in swept)]
        return [*widths, full]


class LatticeView(BaseModel):
    id: str
    target_id: str
    device: str
    version: int
    created_at: datetime
    lattice: Lattice
