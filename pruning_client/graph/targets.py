"""Sizes that a graph computes: constants where they do not depend on the batch, and otherwise
multiples of the size of the batch, which an input of the network has.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from latency_service.core.arrays import Ints
from pruning_client.graph.changing import Graph, drop_attribute

#: Sizes at batch sizes one and two.
Pair = tuple[Ints, Ints]
#: Operators that pick positions, or a number of them, which is their second input.
_PICKERS = ("Gather", "GatherElements", "GatherND", "TopK")


def freeze(graph: Graph) -> bool:
    """Bring computed targets of Reshape, Expand and Tile, bounds of Slice and sizes of Split into a
    form of constants and the batch's size, and return whether any changed.
    """
    changed = False
    for node in list(graph.model.graph.node):
        if node.op_type == "ConstantOfShape":
            changed |= _expand_for_constant(graph, node)
        if node.op_type == "Range":
            changed |= _count_for_range(graph, node)
        if node.op_type == "Tile":
            changed |= _freeze_tile(graph, node)
        if node.op_type == "Expand":
            changed |= _freeze_expand(graph, node)
        elif node.op_type == "Reshape":
            changed |= _freeze_reshape(graph, node)
        elif node.op_type == "Slice":
            changed |= _freeze_bounds(graph, node)
        elif node.op_type in _PICKERS:
            changed |= _freeze_positions(graph, node)
        elif node.op_type == "SplitToSequence":
            changed |= _slice_for_sequence(graph, node)
    return changed


def _computed(graph: Graph, node: NodeProto, index: int) -> Pair | None:
    """Values of an input that the graph computes from sizes, or None if it is constant, brought
    into form, or depends on values.
    """
    if node.input[index] in graph.tensors or node.input[index] in graph.written:
        return None
    return graph.sizes(node.input[index])


def _expand_for_constant(graph: Graph, node: NodeProto) -> bool:
    """Make a tensor of one number an Expand of it if its sizes are known but for the batch's."""
    if graph.sizes(node.input[0]) is None:
        return False
    given = (entry.t for entry in node.attribute if entry.name == "value")
    value = next(given, numpy_helper.from_array(np.zeros(1, np.float32)))
    number = graph.model.graph.initializer.add()
    number.CopyFrom(value)
    number.name = f"{node.name}.value"
    graph.tensors[number.name] = number
    target = node.input[0]
    node.CopyFrom(helper.make_node("Expand", [number.name, target], node.output, node.name))
    return True


def _count_for_range(graph: Graph, node: NodeProto) -> bool:
    """Make numbers from zero over the batch a sum of ones, whose size shape inference follows; and
    those that do not depend on the batch a constant.
    """
    found = graph.sizes(node.output[0])
    if found is None:
        return False
    one, two = found
    if np.array_equal(one, two):
        name = f"{node.name}.value"
        graph.add_constant(name, one)
        node.CopyFrom(helper.make_node("Identity", [name], node.output, node.name))
        return True
    if not np.array_equal(two, np.arange(len(two))) or len(two) != 2 * len(one):
        return False
    names = {part: f"{node.name}.{part}" for part in ("one", "ones", "axis", "sum")}
    graph.add_constant(names["one"], [1])
    graph.add_constant(names["axis"], [0])
    ones = helper.make_node("Expand", [names["one"], ""], [names["ones"]], names["ones"])
    total = helper.make_node("CumSum", [names["ones"], names["axis"]], [names["sum"]], names["sum"])
    node.CopyFrom(helper.make_node("Sub", [names["sum"], names["one"]], node.output, node.name))
    graph.insert_before(node, ones, total)
    return _set_sizes(
        graph, graph.makers[names["ones"]], 1, np.array([len(one)]), np.array([len(two)])
    )


def _freeze_tile(graph: Graph, node: NodeProto) -> bool:
    """Make a Tile whose repeats are computed an Expand; behind an axis of the batch's size, if it
    repeats one of more than one row over the batch.
    """
    found = _computed(graph, node, 1)
    shapes = graph.shapes(node.input[0])
    if found is None or shapes is None:
        return False
    one, two = found
    if np.array_equal(one, two):
        return _set_sizes(graph, node, 1, one, two)
    shape = np.array(shapes[0])
    long = np.flatnonzero((two != 1) & ((shape != 1) | (shape != shapes[1])))
    if len(long) > 1 or not np.array_equal(*shapes):
        return False
    if len(long) == 1:
        # rows [R, ...] as [1, R, ...], expanded to [B, R, ...]
        axis = int(long[0])
        _reshape_around(
            graph,
            node,
            np.insert(shape, axis, 1),
            [-1 if at == axis else size for at, size in enumerate(shape * two)],
        )
        one, two = (np.insert(repeats, axis + 1, 1) for repeats in (one, two))
    # a size of 1 keeps that of the input
    node.op_type = "Expand"
    return _set_sizes(graph, node, 1, one, two)


def _reshape_around(
    graph: Graph, node: NodeProto, before: Ints | list[int], after: Ints | list[int]
) -> None:
    """Let a node work on a reshaped input, and reshape its output."""
    first = helper.make_node(
        "Reshape", [node.input[0]], [f"{node.name}.before"], f"{node.name}.before"
    )
    last = helper.make_node(
        "Reshape", [f"{node.name}.after"], [node.output[0]], f"{node.name}.whole"
    )
    graph.set_input(first, 1, before)
    graph.set_input(last, 1, after)
    node.input[0], node.output[0] = first.output[0], last.input[0]
    graph.makers[node.output[0]] = node
    graph.insert_before(node, first)
    graph.insert_after(node, last)


def _freeze_expand(graph: Graph, node: NodeProto) -> bool:
    found = _computed(graph, node, 1)
    held = graph.shapes(node.input[0])
    if found is None or held is None:
        return False
    rank = max(len(found[0]), len(held[0]))
    one, two = (np.array([1] * (rank - len(sizes)) + sizes.tolist()) for sizes in found)
    padded = [np.array([1] * (rank - len(sizes)) + sizes) for sizes in held]
    # 1 keeps the size of the input
    kept = (one == padded[0]) & (two == padded[1])
    if np.all(kept | (one == two)):
        target = np.where(one == two, one, 1)
        return _set_sizes(graph, node, 1, target, target)
    return _set_sizes(graph, node, 1, np.where(kept, 1, one), np.where(kept, 1, two))


def _freeze_reshape(graph: Graph, node: NodeProto) -> bool:
    found = _computed(graph, node, 1)
    if found is None:
        return False
    one, two = (
        _whole(sizes, shapes.get(node.input[0]))
        for sizes, shapes in zip(found, (graph.one, graph.two), strict=True)
    )
    # -1 is the remaining size, 0 that of the input
    dims = np.where(one == two, one, -1)
    if dims[:1] == -1 and graph.is_axis(node.input[0], 0, int(one[0]), int(two[0])):
        dims[0] = 0
    if np.count_nonzero(dims == -1) <= 1:
        one = two = dims
    elif np.any(one < 1) or np.any(two < 1):
        return False
    if not _set_sizes(graph, node, 1, one, two):
        return False
    drop_attribute(node, "allowzero")
    return True


def _whole(target: Ints, shape: Sequence[int] | None) -> Ints:
    """Target of a Reshape with its remaining size as a number, if the shape before is known."""
    if shape is None or np.count_nonzero(target == -1) != 1 or np.any(target == 0):
        return target
    others = int(np.prod(target[target != -1]))
    return np.where(target == -1, int(np.prod(shape)) // others, target)


def _freeze_bounds(graph: Graph, node: NodeProto) -> bool:
    """Make computed bounds of a Slice constants."""
    if set(node.input[1:3]) <= graph.tensors.keys():
        return False
    starts, ends = graph.sizes(node.input[1]), graph.sizes(node.input[2])
    axes = graph.constant(node, 3)
    if starts is None or ends is None:
        return False
    if np.array_equal(*starts) and np.array_equal(*ends):
        graph.set_input(node, 1, starts[0])
        graph.set_input(node, 2, ends[0])
        return True
    steps = graph.constant(node, 4)
    if axes is None or len(axes) != 1 or (steps is not None and np.any(steps != 1)):
        return False
    return _slice_batches(graph, node, int(axes[0]), _firsts(starts), _firsts(ends))


def _firsts(pair: Pair) -> tuple[int, ...]:
    return tuple(int(values[0]) for values in pair)


def _freeze_positions(graph: Graph, node: NodeProto) -> bool:
    """Make positions that are computed from sizes, as those of windows are, constants."""
    found = _computed(graph, node, 1)
    if found is None or not np.array_equal(*found):
        return False
    graph.set_input(node, 1, found[0])
    return True


def _slice_batches(
    graph: Graph, node: NodeProto, axis: int, starts: tuple[int, ...], ends: tuple[int, ...]
) -> bool:
    """Let a node take whole batches of an axis that holds some, such as the first images of pairs:
    the axis becomes two, of which the first has constant bounds.

    Args:
        starts: First position at batch sizes one and two.
        ends: End at batch sizes one and two.
    """
    shapes = graph.shapes(node.input[0])
    if shapes is None or shapes[1][axis] != 2 * shapes[0][axis]:
        return False
    axis %= len(shapes[0])
    (first, start), (last, end) = (
        [_from_front(at, shape[axis]) for at, shape in zip(bound, shapes, strict=True)]
        for bound in (starts, ends)
    )
    rest = [[*shape[:axis], *shape[axis + 1 :]] for shape in shapes]
    if start != 2 * first or end != 2 * last or rest[0] != rest[1]:
        return False
    shape = shapes[0]
    whole = [*shape[:axis], -1, *shape[axis + 1 :]]
    node.CopyFrom(helper.make_node("Slice", [node.input[0], "", "", ""], node.output, node.name))
    graph.set_input(node, 1, [first])
    graph.set_input(node, 2, [last])
    graph.set_input(node, 3, [axis])
    _reshape_around(graph, node, [*shape[: axis + 1], -1, *shape[axis + 1 :]], whole)
    return True


def _from_front(position: int, size: int) -> int:
    return min(max(position + size if position < 0 else position, 0), size)


def _slice_for_sequence(graph: Graph, node: NodeProto) -> bool:
    """Take the parts of a tensor that is split into sizes that are computed by Slices."""
    found = graph.sizes(node.input[1]) if len(node.input) > 1 else None
    shapes = graph.shapes(node.input[0])
    if found is None or shapes is None:
        return False
    axis = next((entry.i for entry in node.attribute if entry.name == "axis"), 0)
    edges = [_edges(sizes, shape[axis]) for sizes, shape in zip(found, shapes, strict=True)]
    changed = False
    for taker in [other for other in graph.model.graph.node if node.output[0] in other.input]:
        position = graph.constant(taker, 1) if taker.op_type == "SequenceAt" else None
        if position is None or len(edges[0]) != len(edges[1]):
            continue
        index = int(position) % (len(edges[0]) - 1)
        starts, ends = (tuple(int(edge[at]) for edge in edges) for at in (index, index + 1))
        taker.input[0] = node.input[0]
        changed |= _slice_batches(graph, taker, axis, starts, ends)
    return changed


def _edges(sizes: Ints, whole: int) -> Ints:
    """Bounds of the parts of an axis, of sizes as given or all of one size but for the last."""
    parts = sizes if sizes.ndim else np.full(-(-whole // max(1, int(sizes))), sizes)
    return np.asarray(np.minimum(np.cumsum(np.concatenate([[0], parts])), whole))


def _set_sizes(graph: Graph, node: NodeProto, index: int, one: Ints, two: Ints) -> bool:
    """Let a node's input hold sizes that are constant or multiples of the batch's; return whether
    they are.
    """
    if np.array_equal(one, two):
        graph.set_input(node, index, one)
        return True
    if one.shape != two.shape or np.any((one != two) & (two != 2 * one)):
        return False
    prefix = node.name if node.op_type == "Expand" else f"{node.name}.{index}"
    batch = f"{prefix}.batch"
    source = graph.model.graph.input[0].name
    added = [helper.make_node("Shape", [source], [batch], batch, start=0, end=1)]
    parts: list[str] = []
    varies = one != two
    cuts = np.flatnonzero(varies[1:] | varies[:-1]) + 1
    for start, end in itertools.pairwise([0, *cuts.tolist(), len(one)]):
        if np.array_equal(one[start:end], two[start:end]):
            name = f"{prefix}.others{'' if start <= 1 else start}"
            graph.add_constant(name, one[start:end])
        elif one[start] == 1:
            name = batch
        else:
            graph.add_constant(f"{prefix}.times{start}", one[start:end])
            name = f"{prefix}.batch{start}"
            added.append(helper.make_node("Mul", [batch, f"{prefix}.times{start}"], [name], name))
        parts.append(name)
    target = f"{prefix}.target"
    if len(parts) > 1:
        added.append(helper.make_node("Concat", parts, [target], target, axis=0))
    graph.insert_before(node, *added)
    node.input[index] = added[-1].output[0]
    graph.written.add(node.input[index])
    return True
