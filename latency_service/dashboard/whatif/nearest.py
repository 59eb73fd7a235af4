"""Architectures on the lattice whose predicted latency is nearest to a given one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latency_service.core.arrays import Floats
from latency_service.dashboard.whatif.views import Nearest, channels_percent, state_of
from latency_service.predictors.schemas import Sidecar
from latency_service.predictors.serving import Loaded

#: Ways to narrow a network: the exponents at its first and its last group. A group's share of its
#: full width is the common share to that power.
SHAPES = {
    "all groups alike": (1.0, 1.0),
    "narrower at the input": (1.8, 0.6),
    "narrower at the output": (0.6, 1.8),
}
#: Common shares that are tried first.
_SHARES = np.linspace(0.02, 1.0, 64)
#: Most steps of the search around the best of them.
_STEPS = 24

Widths = tuple[int, ...]


def nearest_to(loaded: Loaded, wanted_ms: float) -> list[Nearest]:
    """One architecture for each shape, the nearest to `wanted_ms` first; equal ones once.

    From the best of a row of narrower and narrower networks, single groups move along the lattice
    while that brings the prediction nearer.
    """
    sidecar = loaded.sidecar
    found: dict[Widths, str] = {}
    for shape, exponents in SHAPES.items():
        starts = _starts(sidecar, exponents)
        best = _closest(loaded, starts, wanted_ms)
        found.setdefault(_descend(loaded, best, wanted_ms), shape)
    rows = [_shown(loaded, widths, shape, wanted_ms) for widths, shape in found.items()]
    return sorted(rows, key=lambda row: abs(row.off_percent))


def _starts(sidecar: Sidecar, exponents: tuple[float, float]) -> list[Widths]:
    powers = np.linspace(exponents[0], exponents[1], len(sidecar.groups))
    rows = [
        tuple(
            _nearest_choice(lattice, full * share**power)
            for lattice, full, power in zip(
                sidecar.lattice, sidecar.full_widths, powers, strict=True
            )
        )
        for share in _SHARES
    ]
    return list(dict.fromkeys(rows))


def _nearest_choice(lattice: Sequence[int], width: float) -> int:
    return min(lattice, key=lambda choice: abs(choice - width))


def _descend(loaded: Loaded, start: Widths, wanted_ms: float) -> Widths:
    """Move one group at a time by one place of the lattice, while that helps."""
    present = start
    for _ in range(_STEPS):
        moved = _closest(loaded, [present, *_neighbours(present, loaded.sidecar)], wanted_ms)
        if moved == present:
            break
        present = moved
    return present


def _neighbours(widths: Widths, sidecar: Sidecar) -> list[Widths]:
    found = []
    for g, lattice in enumerate(sidecar.lattice):
        at = lattice.index(widths[g])
        for place in (at - 1, at + 1):
            if 0 <= place < len(lattice):
                found.append((*widths[:g], lattice[place], *widths[g + 1 :]))
    return found


def _closest(loaded: Loaded, rows: Sequence[Widths], wanted_ms: float) -> Widths:
    """The first of the rows whose latency is nearest, by ratio."""
    off: Floats = np.abs(np.log(_latency(loaded, rows) / wanted_ms))
    return rows[int(off.argmin())]


def _latency(loaded: Loaded, rows: Sequence[Widths]) -> Floats:
    return np.asarray(loaded.predict(np.asarray(rows, np.float32), gradient=False)[0], np.float64)


def _shown(loaded: Loaded, widths: Widths, shape: str, wanted_ms: float) -> Nearest:
    latency, lower, upper = loaded.predict(np.asarray([widths], np.float32), gradient=False)
    return Nearest(
        shape=shape,
        widths=list(widths),
        state=state_of(widths),
        latency_ms=float(latency[0]),
        lower_ms=float(lower[0]),
        upper_ms=float(upper[0]),
        off_percent=100 * (float(latency[0]) / wanted_ms - 1),
        channels_percent=channels_percent(widths, loaded.sidecar),
    )
