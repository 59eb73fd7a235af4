"""Widths tried out: predicted latency, what each layer costs, and the nearest architectures to a
latency. Pure functions of a loaded predictor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, Field

from latency_service.core.arrays import Floats32
from latency_service.core.errors import BadRequest
from latency_service.predictors.schemas import Sidecar
from latency_service.predictors.serving import ServedPredictor


class Slider(BaseModel):
    """One width group, in channels."""

    group: str
    members: list[str]
    minimum: int
    full: int
    width: int
    lattice: list[int]
    on_lattice: bool
    snapped: int = Field(description="narrowest lattice width that is at least `width`")


class GroupCost(BaseModel):
    """What the width of one group costs at these widths."""

    group: str
    width: int
    gradient_ms: float = Field(description="ms per channel, as the pruning loop uses it")
    narrower: int | None = Field(description="next narrower width on the lattice; None at the end")
    saved_ms: float | None = Field(description="by going there, all other widths kept")
    saved_percent: float | None
    per_channel_us: float | None = Field(description="microseconds saved per channel removed")


class Answer(BaseModel):
    """Latency at some widths. In ms."""

    widths: list[int]
    latency_ms: float
    lower_ms: float
    upper_ms: float
    level: float = Field(description="of the interval, per cent")
    source: str = Field(description="predicted or measured")
    measurement_id: str | None
    dense_ms: float = Field(description="predicted")
    of_dense_percent: float
    channels_percent: float = Field(description="channels kept of all")
    off_lattice: list[str] = Field(description="groups whose width is not on the lattice")
    costs: list[GroupCost]


class Nearest(BaseModel):
    """An architecture on the lattice near a latency."""

    shape: str = Field(description="how it differs from the others")
    widths: list[int]
    state: str
    latency_ms: float
    lower_ms: float
    upper_ms: float
    off_percent: float = Field(description="of the latency asked for, signed")
    channels_percent: float


class WhatIf(BaseModel):
    """The page."""

    predictor_id: str
    space_id: str
    space: str
    target_id: str
    place: str
    stale_cure: str | None
    answer: Answer
    sliders: list[Slider]
    state: str = Field(description="widths as the address holds them")
    near_ms: float | None
    nearest: list[Nearest] = Field(description="architectures nearest to `near_ms`")


def parse_widths(text: str | None, sidecar: Sidecar) -> list[int]:
    """Widths [G] from an address such as ``16.32.64``; full width without one.

    Raises:
        BadRequest: wrong number of widths, not whole numbers, or out of range.
    """
    if not text:
        return list(sidecar.full_widths)
    try:
        widths = [int(part) for part in text.split(".")]
    except ValueError as error:
        raise BadRequest(
            f"w: {text!r} is not a list of widths.",
            f"Give {len(sidecar.groups)} whole numbers with points between them, such as "
            f"{state_of(sidecar.full_widths)}.",
        ) from error
    _check(widths, sidecar)
    return widths


def state_of(widths: Sequence[int]) -> str:
    """Widths as an address holds them."""
    return ".".join(str(width) for width in widths)


def _check(widths: Sequence[int], sidecar: Sidecar) -> None:
    if len(widths) != len(sidecar.groups):
        raise BadRequest(
            f"{len(widths)} widths given for {len(sidecar.groups)} width groups.",
            f"Give one for each of: {', '.join(sidecar.groups)}.",
        )
    ranges = zip(widths, sidecar.groups, sidecar.minimum_widths, sidecar.full_widths, strict=True)
    for width, group, low, high in ranges:
        if not low <= width <= high:
            raise BadRequest(
                f"Width {width} of group {group!r} is out of range.", f"Give {low} to {high}."
            )


def snapped(widths: Sequence[int], sidecar: Sidecar) -> list[int]:
    """Each width raised to the lattice: wider is free where no wider width is faster."""
    return [
        next((choice for choice in lattice if choice >= width), full)
        for width, lattice, full in zip(widths, sidecar.lattice, sidecar.full_widths, strict=True)
    ]


def sliders_of(
    widths: Sequence[int], sidecar: Sidecar, members: Sequence[Sequence[str]]
) -> list[Slider]:
    raised = snapped(widths, sidecar)
    return [
        Slider(
            group=group,
            members=list(members[g]),
            minimum=sidecar.minimum_widths[g],
            full=sidecar.full_widths[g],
            width=widths[g],
            lattice=sidecar.lattice[g],
            on_lattice=widths[g] in sidecar.lattice[g],
            snapped=raised[g],
        )
        for g, group in enumerate(sidecar.groups)
    ]


def answer_of(served: ServedPredictor, widths: Sequence[int]) -> Answer:
    """Latency at the widths [G] by one call, with what each group costs.

    An architecture that was measured is answered with its measurement; costs are predicted.
    """
    sidecar = served.loaded.sidecar
    narrower = [_narrower(width, sidecar.lattice[g]) for g, width in enumerate(widths)]
    rows = _with_narrower(widths, narrower)
    latency, lower, upper, gradient = served.loaded.predict(rows, gradient=True)
    costs = [
        _cost(sidecar.groups[g], widths[g], float(gradient[0, g]), narrower[g], latency, g)
        for g in range(len(widths))
    ]
    measured = served.freshness.measured.get(tuple(float(width) for width in widths))
    value = float(latency[0]) if measured is None else measured.latency_ms
    return Answer(
        widths=list(widths),
        latency_ms=value,
        lower_ms=float(lower[0]) if measured is None else measured.lower_ms,
        upper_ms=float(upper[0]) if measured is None else measured.upper_ms,
        level=100 * sidecar.interval_level if measured is None else 95.0,
        source="predicted" if measured is None else "measured",
        measurement_id=None if measured is None else measured.id,
        dense_ms=sidecar.dense_ms,
        of_dense_percent=100 * value / sidecar.dense_ms,
        channels_percent=channels_percent(widths, sidecar),
        off_lattice=[
            group
            for group, width, lattice in zip(sidecar.groups, widths, sidecar.lattice, strict=True)
            if width not in lattice
        ],
        costs=costs,
    )


def channels_percent(widths: Sequence[int], sidecar: Sidecar) -> float:
    return 100 * sum(widths) / sum(sidecar.full_widths)


def _narrower(width: int, lattice: Sequence[int]) -> int | None:
    below = [choice for choice in lattice if choice < width]
    return below[-1] if below else None


def _with_narrower(widths: Sequence[int], narrower: Sequence[int | None]) -> Floats32:
    """The widths, and for each group the same with that group narrower [1 + G, G]."""
    rows = np.tile(np.asarray(widths, np.float32), (1 + len(widths), 1))
    for g, choice in enumerate(narrower):
        if choice is not None:
            rows[1 + g, g] = choice
    return rows


def _cost(
    group: str, width: int, gradient: float, narrower: int | None, latency: Floats32, g: int
) -> GroupCost:
    saved = None if narrower is None else float(latency[0] - latency[1 + g])
    removed = 0 if narrower is None else width - narrower
    return GroupCost(
        group=group,
        width=width,
        gradient_ms=gradient,
        narrower=narrower,
        saved_ms=saved,
        saved_percent=None if saved is None else 100 * saved / float(latency[0]),
        per_channel_us=None if saved is None else 1000 * saved / removed,
    )
