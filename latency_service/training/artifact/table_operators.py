"""How a graph reads tables: all layers side by side, a square of STENCIL x STENCIL entries of each.

What an entry weighs, and where the squares lie, depends on the grid alone: however many tables on
one grid are mixed, it is computed once. The latency is linear in the entries, so their slopes are
too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from latency_service.core.arrays import Floats, Ints
from latency_service.training.artifact.lookup_tables import STENCIL, Axis, Grid, Tables
from latency_service.training.artifact.onnx_builder import Graph

WIDTHS = "widths"
#: Entries of a table that one prediction reads.
SQUARE = STENCIL * STENCIL


class Read(NamedTuple):
    """Names in the graph: latency [B] in ms, and the entries that it is made of [B, L, SQUARE]."""

    latency: str
    entries: str


def read_tables(model: Tables, graph: Graph) -> Read:
    """Add the forward pass."""
    places = graph.once(_places, model.grid)
    entries = graph.op("Gather", _windows(model.values, graph), places.rows)
    entries = graph.op(
        "Reshape", entries, graph.constant([0, len(model.grid.row), SQUARE], np.int64)
    )
    weighed = graph.op("Mul", entries, places.weights)
    ones = np.ones((len(model.grid.row), 1))
    total = _by_layer(weighed, ones, graph, graph.constant([model.overhead]))
    latency = graph.op("Squeeze", total, graph.constant([1], np.int64))
    return Read(graph.op("Max", latency, graph.constant(model.lowest_ms)), entries)


def slope_of_tables(grid: Grid, entries: str, graph: Graph) -> str:
    """Add the gradient [B, G] of what the entries [B, L, SQUARE] of tables on `grid` add up to: a
    name in the graph.
    """
    places = graph.once(_places, grid)
    per_cell = np.stack([axis.count.coefficients / axis.cell for axis in grid.axes])
    first, second = grid.layer_axes.T
    across = _by_layer(graph.op("Mul", entries, places.slopes_across), per_cell[second], graph)
    return _by_layer(graph.op("Mul", entries, places.slopes_down), per_cell[first], graph, across)


def _by_layer(value: str, matrix: Floats, graph: Graph, *bias: str) -> str:
    """Sums over the squares [B, L, SQUARE], times a matrix [L, ...]."""
    flat = graph.op("Reshape", value, graph.constant([0, -1], np.int64))
    return graph.op("Gemm", flat, graph.constant(np.repeat(matrix, SQUARE, axis=0)), *bias)


class _Places(NamedTuple):
    """Names in the graph: the squares' rows [B, L, STENCIL] among all windows, what their entries
    weigh, and the slopes of that by the positions in cells along either axis, each [B, L, SQUARE].
    """

    rows: str
    weights: str
    slopes_down: str
    slopes_across: str


def _places(grid: Grid, graph: Graph) -> _Places:
    first, second = grid.layer_axes.T
    weighed = _weigh(grid.axes, graph, graph.op("Max", WIDTHS, graph.constant(grid.floor)))

    def along(axes: Ints, value: str) -> str:
        return graph.op("Gather", value, graph.constant(axes, np.int64), axis=1)

    corner = graph.op("Mul", along(first, weighed.start), graph.constant(grid.row, np.int64))
    corner = graph.op(
        "Unsqueeze",
        graph.op("Add", corner, along(second, weighed.start)),
        graph.constant([2], np.int64),
    )
    rows = graph.constant(grid.first[:, None] + grid.row[:, None] * np.arange(STENCIL), np.int64)
    down = along(first, weighed.weights_down)
    across = along(second, weighed.weights_across)
    return _Places(
        rows=graph.op("Add", corner, rows),
        weights=graph.op("Mul", down, across),
        slopes_down=graph.op("Mul", along(first, weighed.slopes_down), across),
        slopes_across=graph.op("Mul", down, along(second, weighed.slopes_across)),
    )


def _windows(values: Floats, graph: Graph) -> str:
    """Every run of STENCIL neighbouring values, as rows; the runtime folds it into a constant when
    it loads.
    """
    padded = graph.constant(np.append(values, np.zeros(STENCIL - 1))[:, None])
    shifted = [
        graph.op(
            "Slice",
            padded,
            *(graph.constant([at], np.int64) for at in (begin, begin + len(values), 0)),
        )
        for begin in range(STENCIL)
    ]
    return graph.op("Concat", *shifted, axis=1)


class _Weighed(NamedTuple):
    """Names in the graph, for every axis: what its position makes each entry of a square weigh,
    where it is the square's first axis (down) or its second (across), the slopes of that by the
    position in cells, each [B, A, SQUARE], and the stencil's first knot [B, A].
    """

    weights_down: str
    slopes_down: str
    weights_across: str
    slopes_across: str
    start: str


def _weigh(axes: list[Axis], graph: Graph, widths: str) -> _Weighed:
    sizes = np.array([len(axis.start) for axis in axes])
    per_cell = np.stack([axis.count.coefficients / axis.cell for axis in axes])
    shift = np.array([(axis.count.constant - axis.knots[0]) / axis.cell + 1 for axis in axes])
    position = graph.op("Gemm", widths, graph.constant(per_cell.T), graph.constant(shift))
    cell = graph.op("Min", graph.op("Floor", position), graph.constant(sizes - 1))
    cell = graph.op("Max", cell, graph.constant(0.0))
    row = graph.op(
        "Cast",
        graph.op("Add", cell, graph.constant(np.cumsum(sizes) - sizes)),
        to=TensorProto.INT64,
    )
    u = graph.op("Unsqueeze", graph.op("Sub", position, cell), graph.constant([2], np.int64))
    found = graph.op(
        "Gather", graph.constant(np.concatenate([_powers(axis) for axis in axes])), row
    )
    *lower, value = graph.ops(
        "Split", 4, found, graph.constant([2 * STENCIL] * 4, np.int64), axis=2
    )
    for part in reversed(lower):
        value = graph.op("Add", graph.op("Mul", value, u), part)
    points = np.eye(STENCIL)
    down = np.repeat(points, STENCIL, axis=1)
    across = np.tile(points, STENCIL)
    spread = np.concatenate([np.kron(np.eye(2), down), np.kron(np.eye(2), across)], axis=1)
    parts = graph.op("MatMul", value, graph.constant(spread))
    weights_down, slopes_down, weights_across, slopes_across = graph.ops(
        "Split", 4, parts, graph.constant([SQUARE] * 4, np.int64), axis=2
    )
    start = graph.op(
        "Gather", graph.constant(np.concatenate([axis.start for axis in axes]), np.int64), row
    )
    return _Weighed(weights_down, slopes_down, weights_across, slopes_across, start)


def _powers(axis: Axis) -> Floats:
    """Coefficients of ascending powers of the weights and, beside them, of their slopes [cells, 4 *
    2 * STENCIL].
    """
    slopes = np.zeros_like(axis.weights)
    slopes[:, :3] = axis.weights[:, 1:] * np.arange(1, 4)[:, None]
    return np.concatenate([axis.weights, slopes], axis=2).reshape(len(slopes), -1)
