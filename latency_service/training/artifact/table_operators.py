"""ONNX operators of lookup tables: a square of STENCIL x STENCIL entries is read for each layer.

The weights of the entries and the positions of the squares depend on the grid alone, so they are
computed once however many tables on one grid are mixed. The latency is linear in the entries, and
so is its gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from latency_service.core.arrays import Floats, Ints
from latency_service.training.artifact.emission import WIDTHS, Emitted
from latency_service.training.artifact.lookup_tables import STENCIL, Axis, Grid, Tables
from latency_service.training.artifact.onnx_builder import Graph

#: Entries of a table that one prediction reads.
SQUARE = STENCIL * STENCIL


class Read(NamedTuple):
    """Names in the graph: latency [B] in ms, and the entries that it sums up [B, L, SQUARE]."""

    latency: str
    entries: str


def emit_tables(model: Tables, graph: Graph) -> Emitted:
    """The value of the tables and its slope."""
    read = graph.once(read_tables, model)
    return Emitted(read.latency, slope_of_tables(model.grid, read.entries, graph))


def read_tables(model: Tables, graph: Graph) -> Read:
    """Add the forward pass of `model`."""
    places = graph.once(_places, model.grid)
    entries = graph.op("Gather", _windows(model.values, graph), places.rows)
    entries = graph.op("Reshape", entries, graph.axes(0, len(model.grid.row), SQUARE))
    weighed = graph.mul(entries, places.weights)
    ones = np.ones((len(model.grid.row), 1))
    total = _by_layer(weighed, ones, graph, graph.constant([model.overhead]))
    latency = graph.op("Squeeze", total, graph.axes(1))
    return Read(graph.maximum(latency, graph.constant(model.lowest_ms)), entries)


def slope_of_tables(grid: Grid, entries: str, graph: Graph) -> str:
    """Add the gradient of the sum of the entries [B, L, SQUARE] of tables on `grid`.

    Returns:
        Its name in the graph [B, G].
    """
    places = graph.once(_places, grid)
    per_cell = np.stack([axis.count.coefficients / axis.cell for axis in grid.axes])
    first, second = grid.layer_axes.T
    across = _by_layer(graph.mul(entries, places.slopes_across), per_cell[second], graph)
    return _by_layer(graph.mul(entries, places.slopes_down), per_cell[first], graph, across)


def _by_layer(value: str, matrix: Floats, graph: Graph, *bias: str) -> str:
    """Sums over the squares [B, L, SQUARE], times a matrix [L, ...]."""
    flat = graph.op("Reshape", value, graph.axes(0, -1))
    return graph.op("Gemm", flat, graph.constant(np.repeat(matrix, SQUARE, axis=0)), *bias)


class _Places(NamedTuple):
    """Names in the graph: rows of the squares among all windows [B, L, STENCIL]; the weights of
    their entries, and the slopes of the weights by the position in the cell of either axis, each
    [B, L, SQUARE].
    """

    rows: str
    weights: str
    slopes_down: str
    slopes_across: str


def _places(grid: Grid, graph: Graph) -> _Places:
    first, second = grid.layer_axes.T
    weighed = _weigh(grid.axes, graph, graph.maximum(WIDTHS, graph.constant(grid.floor)))

    def along(axes: Ints, value: str) -> str:
        return graph.op("Gather", value, graph.constant(axes, np.int64), axis=1)

    corner = graph.mul(along(first, weighed.start), graph.constant(grid.row, np.int64))
    corner = graph.op(
        "Unsqueeze",
        graph.add(corner, along(second, weighed.start)),
        graph.axes(2),
    )
    rows = graph.constant(grid.first[:, None] + grid.row[:, None] * np.arange(STENCIL), np.int64)
    down = along(first, weighed.weights_down)
    across = along(second, weighed.weights_across)
    return _Places(
        rows=graph.add(corner, rows),
        weights=graph.mul(down, across),
        slopes_down=graph.mul(along(first, weighed.slopes_down), across),
        slopes_across=graph.mul(down, along(second, weighed.slopes_across)),
    )


def _windows(values: Floats, graph: Graph) -> str:
    """Every run of STENCIL neighbouring values as a row; the runtime folds it into a constant."""
    padded = graph.constant(np.append(values, np.zeros(STENCIL - 1))[:, None])
    shifted = [
        graph.op(
            "Slice",
            padded,
            *(graph.axes(at) for at in (begin, begin + len(values), 0)),
        )
        for begin in range(STENCIL)
    ]
    return graph.op("Concat", *shifted, axis=1)


class _Weighed(NamedTuple):
    """Names in the graph, for every axis: weights of a square's entries and their slopes by the
    position in the cell, as the square's first axis (down) and as its second (across), each
    [B, A, SQUARE]; first knot of the stencil [B, A].
    """

    weights_down: str
    slopes_down: str
    weights_across: str
    slopes_across: str
    start: str


class _Located(NamedTuple):
    """Names in the graph, for every axis: the row of its cell among all cells, and the position
    within the cell in 0..1, each [B, A].
    """

    row: str
    position: str


def _weigh(axes: list[Axis], graph: Graph, widths: str) -> _Weighed:
    located = _locate(axes, graph, widths)
    starts = np.concatenate([axis.start for axis in axes])
    start = graph.op("Gather", graph.constant(starts, np.int64), located.row)
    spread = graph.matmul(_stencil_weights(axes, located, graph), graph.constant(_SPREAD))
    sizes = graph.constant([SQUARE] * 4, np.int64)
    weights_down, slopes_down, weights_across, slopes_across = graph.ops(
        "Split", 4, spread, sizes, axis=2
    )
    return _Weighed(weights_down, slopes_down, weights_across, slopes_across, start)


def _locate(axes: list[Axis], graph: Graph, widths: str) -> _Located:
    cells = np.array([len(axis.start) for axis in axes])
    per_cell = np.stack([axis.count.coefficients / axis.cell for axis in axes])
    shift = np.array([(axis.count.constant - axis.knots[0]) / axis.cell + 1 for axis in axes])
    position = graph.op("Gemm", widths, graph.constant(per_cell.T), graph.constant(shift))
    cell = graph.op("Min", graph.op("Floor", position), graph.constant(cells - 1))
    cell = graph.maximum(cell, graph.constant(0.0))
    first_rows = graph.constant(np.cumsum(cells) - cells)
    row = graph.cast(graph.add(cell, first_rows), TensorProto.INT64)
    return _Located(row, graph.sub(position, cell))


def _stencil_weights(axes: list[Axis], located: _Located, graph: Graph) -> str:
    """Weights of the stencil's points and their slopes [B, A, 2 * STENCIL], by Horner's scheme."""
    position = graph.op("Unsqueeze", located.position, graph.axes(2))
    table = np.concatenate([_powers(axis) for axis in axes])
    powers = graph.op("Gather", graph.constant(table), located.row)
    sizes = graph.constant([2 * STENCIL] * 4, np.int64)
    *lower, value = graph.ops("Split", 4, powers, sizes, axis=2)
    for coefficient in reversed(lower):
        value = graph.add(graph.mul(value, position), coefficient)
    return value


def _spread_matrix() -> Floats:
    """Repeats the stencil's weights and slopes over a square, down and across [2 * STENCIL, 4 *
    SQUARE].
    """
    points = np.eye(STENCIL)
    down = np.repeat(points, STENCIL, axis=1)
    across = np.tile(points, STENCIL)
    return np.concatenate([np.kron(np.eye(2), down), np.kron(np.eye(2), across)], axis=1)


_SPREAD = _spread_matrix()


def _powers(axis: Axis) -> Floats:
    """Coefficients by ascending power: of the weights, then of their slopes [cells, 4 * 2 *
    STENCIL].
    """
    slopes = np.zeros_like(axis.weights)
    slopes[:, :3] = axis.weights[:, 1:] * np.arange(1, 4)[:, None]
    return np.concatenate([axis.weights, slopes], axis=2).reshape(len(slopes), -1)
