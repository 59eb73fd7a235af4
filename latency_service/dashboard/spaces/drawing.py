"""Where the boxes and lines of a graph go, in pixels of the drawing. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from latency_service.dashboard.palette import SERIES
from latency_service.dashboard.spaces.graph import Box, Edge, Graph

WIDTH = 190
HEIGHT = 28
_GAP_X = 26
_GAP_Y = 22
_MARGIN = 12
#: Room at the right for lines that pass boxes.
_PASSING = 70


@dataclass(frozen=True, kw_only=True)
class DrawnBox:
    """A box with its place. Group numbers count from 1."""

    box: Box
    x: float
    y: float
    #: Number of the first group that it follows; None where its channels never change.
    number: int | None
    color: str | None

    @property
    def middle_x(self) -> float:
        return self.x + WIDTH / 2


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A graph as it is drawn."""

    width: float
    height: float
    boxes: list[DrawnBox]
    #: Lines as path data of SVG.
    paths: list[str]


def color_of(group: int) -> str:
    """Colour of a group, counted from 0; numbers tell those of one colour apart."""
    return SERIES[group % len(SERIES)].color


def draw(graph: Graph) -> Drawing:
    """Rows from top to bottom, each in the middle."""
    counts: dict[int, int] = {}
    for box in graph.boxes:
        counts[box.row] = counts.get(box.row, 0) + 1
    boxes = [_drawn(box, counts[box.row], graph.columns) for box in graph.boxes]
    return Drawing(
        width=2 * _MARGIN + graph.columns * (WIDTH + _GAP_X) - _GAP_X + _PASSING,
        height=2 * _MARGIN + graph.rows * (HEIGHT + _GAP_Y) - _GAP_Y,
        boxes=boxes,
        paths=[_path(edge, boxes) for edge in graph.edges],
    )


def _drawn(box: Box, in_row: int, columns: int) -> DrawnBox:
    free = (columns - in_row) * (WIDTH + _GAP_X) / 2
    first = box.groups[0] if box.groups else None
    return DrawnBox(
        box=box,
        x=_MARGIN + free + box.column * (WIDTH + _GAP_X),
        y=_MARGIN + box.row * (HEIGHT + _GAP_Y),
        number=None if first is None else first + 1,
        color=None if first is None else color_of(first),
    )


def _path(edge: Edge, boxes: list[DrawnBox]) -> str:
    source, target = boxes[edge.source], boxes[edge.target]
    x1, y1 = source.middle_x, source.y + HEIGHT
    x2, y2 = target.middle_x, target.y
    if target.box.row == source.box.row + 1:
        half = (y1 + y2) / 2
        return f"M{x1:.0f} {y1:.0f}C{x1:.0f} {half:.0f} {x2:.0f} {half:.0f} {x2:.0f} {y2:.0f}"
    return _around(source, target)


def _around(source: DrawnBox, target: DrawnBox) -> str:
    """A line at the right of the boxes between."""
    x1, y1 = source.x + WIDTH, source.y + HEIGHT / 2
    x2, y2 = target.x + WIDTH, target.y + HEIGHT / 2
    reach = max(x1, x2) + min(_PASSING - 10, 14 + 6 * (target.box.row - source.box.row))
    return f"M{x1:.0f} {y1:.0f}C{reach:.0f} {y1:.0f} {reach:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
