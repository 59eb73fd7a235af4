"""ONNX operators of mixtures: blends, bottlenecks, and the constant inside a bottleneck."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np

from latency_service.training.artifact.emission import WIDTHS, Emitted, emit
from latency_service.training.artifact.lookup_tables import Grid, Tables
from latency_service.training.artifact.onnx_builder import Graph
from latency_service.training.artifact.table_operators import read_tables, slope_of_tables
from latency_service.training.models.mixtures import Blend, Bottleneck, Constant

#: By the id of a model that is not a mixture: the model, and the name of its share [B].
Shares: TypeAlias = dict[int, tuple[object, str]]


class _Mixed(NamedTuple):
    """Names in the graph: log latency [B], and its derivative by each member's log latency [B]."""

    log: str
    shares: Shares


def emit_mixture(model: Blend | Bottleneck, graph: Graph) -> Emitted:
    """Each member's gradient, weighted by its share.

    The entries of tables on the same grid are added up before they are differentiated.
    """
    mixed = graph.once(_mixed, model)
    latency = graph.exp(mixed.log)
    entries: dict[Grid, str] = {}
    gradient = ""
    for member, share in mixed.shares.values():
        scaled_share = graph.mul(share, latency)
        if isinstance(member, Tables):
            weighted = _weighted_entries(member, scaled_share, graph)
            entries[member.grid] = _sum(entries.get(member.grid, ""), weighted, graph)
        else:
            gradient = _sum(gradient, _weighted_gradient(member, scaled_share, graph), graph)
    for grid, summed in entries.items():
        gradient = _sum(gradient, slope_of_tables(grid, summed, graph), graph)
    return Emitted(latency, gradient)


def emit_constant(_model: Constant, graph: Graph) -> Emitted:
    """1 ms and a gradient of zeros, in the shapes of the batch."""
    gradient = graph.mul(WIDTHS, graph.constant(0.0))
    zeros = graph.op("ReduceSum", gradient, graph.axes(1), keepdims=0)
    return Emitted(graph.add(zeros, graph.constant(1.0)), gradient)


def _weighted_entries(tables: Tables, scaled_share: str, graph: Graph) -> str:
    read = graph.once(read_tables, tables)
    weight = _with_axes(graph.div(scaled_share, read.latency), 2, graph)
    return graph.mul(read.entries, weight)


def _weighted_gradient(model: object, scaled_share: str, graph: Graph) -> str:
    emitted = graph.once(emit, model)
    weight = _with_axes(graph.div(scaled_share, emitted.latency), 1, graph)
    return graph.mul(emitted.gradient, weight)


def _mixed(model: object, graph: Graph) -> _Mixed:
    if isinstance(model, Blend):
        return _blended(model, graph)
    if isinstance(model, Bottleneck):
        return _limited(model, graph)
    log = graph.log(_latency(model, graph))
    return _Mixed(log, {id(model): (model, graph.constant(1.0))})


def _latency(model: object, graph: Graph) -> str:
    if isinstance(model, Tables):
        return graph.once(read_tables, model).latency
    return graph.once(emit, model).latency


def _blended(model: Blend, graph: Graph) -> _Mixed:
    """level + sum of share * log latency."""
    members = [graph.once(_mixed, member) for member in model.models]
    weights = [graph.constant(share) for share in model.shares]
    log = graph.constant([model.level])
    for member, weight in zip(members, weights, strict=True):
        log = graph.add(log, graph.mul(member.log, weight))
    return _Mixed(log, _combined_shares(members, weights, graph))


def _limited(model: Bottleneck, graph: Graph) -> _Mixed:
    """The smooth maximum of log latencies; a member's weight is its share of the sum of powers."""
    members = [graph.once(_mixed, member) for member in model.models]
    sharpness = graph.constant(model.sharpness)
    rows = graph.axes(1)
    raised = graph.mul(_columns(model, members, graph), sharpness)
    # relative to the highest: the powers of long latencies exceed single precision
    highest = graph.op("ReduceMax", raised, axes=[1], keepdims=1)
    powers = graph.exp(graph.sub(raised, highest))
    total = graph.op("ReduceSum", powers, rows)
    log = graph.div(graph.add(highest, graph.log(total)), sharpness)
    columns = graph.ops("Split", len(members), graph.div(powers, total), axis=1)
    weights = [graph.op("Squeeze", column, rows) for column in columns]
    return _Mixed(graph.op("Squeeze", log, rows), _combined_shares(members, weights, graph))


def _columns(model: Bottleneck, members: list[_Mixed], graph: Graph) -> str:
    """Scaled log latencies of the members [B, M]."""
    logs = [
        _with_axes(graph.add(member.log, graph.constant(factor)), 1, graph)
        for member, factor in zip(members, model.log_factors, strict=True)
    ]
    return graph.op("Concat", *logs, axis=1)


def _combined_shares(members: list[_Mixed], weights: list[str], graph: Graph) -> Shares:
    shares: Shares = {}
    for member, weight in zip(members, weights, strict=True):
        for key, (model, share) in member.shares.items():
            before = shares[key][1] if key in shares else ""
            shares[key] = model, _sum(before, graph.mul(share, weight), graph)
    return shares


def _with_axes(vector: str, axes: int, graph: Graph) -> str:
    """A vector [B] as [B, 1, ...] with `axes` more axes."""
    return graph.op("Unsqueeze", vector, graph.constant(range(1, axes + 1), np.int64))


def _sum(before: str, value: str, graph: Graph) -> str:
    return graph.add(before, value) if before else value
