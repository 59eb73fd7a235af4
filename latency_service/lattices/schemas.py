"""The lattice of a target: the widths worth using, by kind of layer, and its wire schemas."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

#: Largest block of channels that processors usually compute at once: widths with the same remainder
#: behave alike.
PERIOD = 16


class LatticePoint(BaseModel):
    """One width of a sweep over one kind of layer. Latencies in ms."""

    model_config = ConfigDict(frozen=True)

    width: int = Field(ge=1)
    latency_ms: float
    lower_ms: float
    upper_ms: float
    dominated: bool = Field(False, description="a wider width is faster")


class KindLattice(BaseModel):
    """Worthwhile widths of one kind of layer: as measured where it was swept, multiples of `step`
    beyond.

    Between the measured widths one is worthwhile when a neighbour with the same remainder by 16 is.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    step: int = Field(
        ge=1, description="beyond the widest width measured, its multiples are worthwhile"
    )
    points: list[LatticePoint] = Field(description="widths measured, ascending")

    def is_worthwhile(self, filters: int) -> bool:
        """Whether no wider layer of this kind is known to be faster."""
        if filters > self.widest:
            return filters % self.step == 0
        alike = self._by_remainder.get(filters % PERIOD, {})
        if filters in alike:
            return alike[filters]
        below = [width for width in alike if width < filters][-1:]
        above = [width for width in alike if width > filters][:1]
        return (
            any(alike[width] for width in (*below, *above)) if alike else filters % self.step == 0
        )

    @property
    def narrowest(self) -> int:
        """Narrowest width measured; 1 when none was."""
        return self.points[0].width if self.points else 1

    @property
    def widest(self) -> int:
        """Widest width measured; 0 when none was."""
        return self.points[-1].width if self.points else 0

    @cached_property
    def _by_remainder(self) -> dict[int, dict[int, bool]]:
        """For each remainder the measured widths, ascending, and whether they are worthwhile."""
        found: dict[int, dict[int, bool]] = {}
        for point in self.points:
            found.setdefault(point.width % PERIOD, {})[point.width] = not point.dominated
        return found


class Lattice(BaseModel):
    """Worthwhile widths of a target, for each kind of layer that was swept on it."""

    model_config = ConfigDict(frozen=True)

    kinds: list[KindLattice]

    def of(self, kind: str) -> KindLattice | None:
        return next((entry for entry in self.kinds if entry.kind == kind), None)

    def worthwhile(
        self, kinds: Iterable[str], *, full: int, minimum: int, unit: int = 1
    ) -> list[int]:
        """Widths from `minimum` to `full`, ascending, that are worthwhile for every one of `kinds`.

        Full width always belongs to it: inside its group nothing is wider. `unit` is the number of
        filters that belong to one channel of the group.
        """
        swept = [entry for kind in kinds if (entry := self.of(kind)) is not None]
        widths = [
            w for w in range(minimum, full) if all(entry.is_worthwhile(w * unit) for entry in swept)
        ]
        return [*widths, full]


class LatticeView(BaseModel):
    id: str
    target_id: str
    device: str
    version: int
    created_at: datetime
    lattice: Lattice
