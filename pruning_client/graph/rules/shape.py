"""Rules of operators that move positions: reshape, transpose, concat, split, slice, pad, tile."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from latency_service.core.arrays import Ints
from pruning_client.graph.flow import Counted, Flow, Labels, Unsupported
from pruning_client.graph.labels import FIXED, Atoms, classes_if_united
from pruning_client.graph.rules.registry import Registry

rule = Registry()

_Block = tuple[list[int], list[int]]


@rule("Reshape", "Flatten")
def _reshape(flow: Flow, node: NodeProto) -> None:
    before = flow.of(node.input[0])
    after = flow.shapes[node.output[0]]
    out = flow.fixed(after)
    apart = _is_normalised_apart(flow, node.output[0])
    for source, target in _blocks([len(atoms) for atoms in before], after):
        carriers = [index for index, axis in enumerate(target) if axis == 1 or not apart]
        parts = _regroup(flow, before, source, [after[a] for a in target], carriers)
        for axis, atoms in zip(target, parts, strict=True):
            out[axis] = atoms
    if node.op_type == "Reshape":
        _follow(flow, node, 1, out)
    flow.give(node.output[0], out)


def _is_normalised_apart(flow: Flow, name: str) -> bool:
    """Whether a tensor is only normalised, for each position of axis 1: a group norm's input."""
    readers = flow.readers.get(name, [])
    return bool(readers) and all(node.op_type == "InstanceNormalization" for node in readers)


def _blocks(before: list[int], after: list[int]) -> list[_Block]:
    """Smallest pairs of (input axes, output axes) with equal numbers of elements, without axes of
    size one.
    """
    sources = [axis for axis, size in enumerate(before) if size > 1]
    targets = [axis for axis, size in enumerate(after) if size > 1]
    blocks: list[_Block] = []
    while sources and targets:
        source = [sources.pop(0)]
        target = [targets.pop(0)]
        left = before[source[0]]
        right = after[target[0]]
        while left != right:
            if left < right:
                source.append(sources.pop(0))
                left *= before[source[-1]]
            else:
                target.append(targets.pop(0))
                right *= after[target[-1]]
        blocks.append((source, target))
    return blocks


def _regroup(
    flow: Flow, before: Labels, source: list[int], sizes: list[int], carriers: list[int]
) -> Labels:
    """Labels of the axes, of lengths `sizes`, into which the `source` axes are reshaped.

    Args:
        carriers: Indices into `sizes` of the axes whose positions may be removed; empty for any.
    """
    free = [axis for axis in source if flow.is_free(before[axis])]
    if not free:
        # keep the atoms if positions do not move, so that their reason stays known
        return (
            [before[source[0]]]
            if len(source) == len(sizes) == 1
            else [np.zeros(n, np.int64) for n in sizes]
        )
    if len(free) > 1:
        raise Unsupported("two axes of channels are merged into one")
    shape = [len(before[axis]) for axis in source]
    position = source.index(free[0])
    expanded = before[free[0]].reshape([-1 if a == position else 1 for a in range(len(source))])
    elements = np.broadcast_to(expanded, shape).reshape(sizes)
    return _carry(flow, elements, carriers or list(range(len(sizes))))


def _carry(flow: Flow, elements: Atoms, carriers: list[int]) -> Labels:
    """Assign a block's channels to the one of the carriers that keeps most of them separate, and
    unite them across the others.
    """
    views = [
        np.moveaxis(elements, axis, 0).reshape(size, -1) for axis, size in enumerate(elements.shape)
    ]
    rooted = [flow.table.roots(view) for view in views]
    best = max(carriers, key=lambda axis: classes_if_united(rooted[axis]))
    view = views[best]
    columns = np.broadcast_to(view[:, :1], view.shape)
    flow.table.unite(columns, view, "reshaped together with channels that are never removed")
    return [
        view[:, 0] if axis == best else np.zeros(size, np.int64)
        for axis, size in enumerate(elements.shape)
    ]


def _follow(flow: Flow, node: NodeProto, index: int, out: Labels) -> None:
    """Record that the constant input `index` holds the sizes of `out`."""
    value = flow.input_value(node, index)
    for axis, atoms in enumerate(out):
        if value is None:
            if flow.is_free(atoms):
                raise Unsupported("its sizes are not constant")
        elif value[axis] > 0 and len(atoms) > 1:
            flow.counted.append(Counted(initializer=node.input[index], index=axis, atoms=atoms))


@rule("Expand")
def _expand(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    after = flow.shapes[node.output[0]]
    padded = flow.fixed([1] * (len(after) - len(x))) + x
    # a constant takes on the channels of the tensor that it is combined with: a number, or one
    # filter that is repeated for each channel
    number = node.input[0] in flow.tensors and (
        all(len(atoms) == 1 for atoms in x) or _is_filter(flow, node.output[0])
    )
    out = [
        atoms
        if len(atoms) == size
        else (flow.table.fresh(size) if number else np.full(size, FIXED))
        for atoms, size in zip(padded, after, strict=True)
    ]
    value = flow.computed_value(node, 1)
    if value is None:
        if any(flow.is_free(atoms) for atoms in out):
            raise Unsupported("its sizes are not constant")
        return flow.give(node.output[0], out)
    for index, (size, holder) in enumerate(
        zip(value, flow.holders(node.input[1]), strict=True), len(out) - len(value)
    ):
        atoms = out[index]
        if size > 1 and holder is not None:
            flow.counted.append(Counted(initializer=holder[0], index=holder[1], atoms=atoms))
        elif size > 1 and flow.is_free(atoms):
            raise Unsupported("its sizes are not constant")
    return flow.give(node.output[0], out)


def _is_filter(flow: Flow, name: str) -> bool:
    """Whether a tensor is only the weight of convolutions."""
    readers = flow.readers.get(name, [])
    return bool(readers) and all(
        node.op_type in ("Conv", "ConvTranspose") and node.input[1] == name for node in readers
    )


@rule("Transpose")
def _transpose(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    order = flow.attributes(node).get("perm", range(len(x))[::-1])
    flow.give(node.output[0], [x[axis] for axis in order])


@rule("Squeeze", "Unsqueeze")
def _squeeze(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    after = flow.shapes[node.output[0]]
    long = [atoms for atoms in x if len(atoms) > 1]
    out = [long.pop(0) if size > 1 else np.zeros(1, np.int64) for size in after]
    flow.give(node.output[0], out)


@rule("Concat")
def _concat(flow: Flow, node: NodeProto) -> None:
    parts = [flow.of(name) for name in node.input]
    axis = int(flow.attributes(node)["axis"]) % len(parts[0])
    out: Labels = []
    for index in range(len(parts[0])):
        if index == axis:
            out.append(np.concatenate([part[index] for part in parts]))
            continue
        for part in parts[1:]:
            flow.unite(part[index], parts[0][index], node)
        out.append(parts[0][index])
    flow.give(node.output[0], out)


@rule("Split")
def _split(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    axis = int(flow.attributes(node).get("axis", 0)) % len(x)
    sizes = flow.input_value(node, 1)
    if sizes is None and flow.is_free(x[axis]):
        raise Unsupported("its sizes are not constant")
    offset = 0
    for index, name in enumerate(node.output):
        size = flow.shapes[name][axis]
        piece = x[axis][offset : offset + size]
        offset += size
        if sizes is not None:
            _piece(flow, node.input[1], index, piece)
        flow.give(name, [piece if a == axis else atoms for a, atoms in enumerate(x)])


def _piece(flow: Flow, initializer: str, index: int, piece: Atoms) -> None:
    flow.counted.append(Counted(initializer=initializer, index=index, atoms=piece))
    flow.pieces.append(piece)


@rule("Slice")
def _slice(flow: Flow, node: NodeProto) -> None:
    x = list(flow.of(node.input[0]))
    starts, ends = (flow.computed_value(node, index) for index in (1, 2))
    axes, steps = (flow.input_value(node, index) for index in (3, 4))
    after = flow.shapes[node.output[0]]
    sliced = x if axes is None else [x[int(axis)] for axis in axes]
    are_constant = axes is not None and set(node.input[1:3]) <= flow.tensors.keys()
    if not are_constant and any(flow.is_free(atoms) for atoms in sliced):
        raise Unsupported("its bounds are not constant")
    if starts is None or ends is None or axes is None:
        return flow.give(node.output[0], flow.fixed(after))
    for index, axis in enumerate(int(a) % len(x) for a in axes):
        start = int(starts[index])
        end = int(ends[index])
        step = 1 if steps is None else int(steps[index])
        atoms = x[axis]
        x[axis] = atoms[start:end:step]
        reverses = (start, step) == (-1, -1) and end < -len(atoms)
        if not flow.is_free(atoms) or (start <= 0 and end >= len(atoms) and step == 1):
            x[axis] = x[axis] if len(x[axis]) == after[axis] else np.zeros(after[axis], np.int64)
        elif step > 1 and 0 <= start < step and end >= 0:
            _unite_windows(flow, node, atoms, step)
            flow.counted.append(Counted(initializer=node.input[2], index=index, atoms=atoms[:end]))
        elif not reverses:
            if step != 1 or start < 0 or end < 0:
                raise Unsupported("channels are sliced in steps or backwards")
            flow.counted.append(
                Counted(initializer=node.input[1], index=index, atoms=atoms[:start])
            )
            flow.counted.append(Counted(initializer=node.input[2], index=index, atoms=atoms[:end]))
            flow.pieces.append(x[axis])
    return flow.give(node.output[0], x)


def _unite_windows(flow: Flow, node: NodeProto, atoms: Atoms, step: int) -> None:
    """Unite the channels of each window of `step` positions: the first one of each that stays is
    still taken when other windows are removed.
    """
    firsts = atoms[np.arange(len(atoms)) // step * step]
    flow.unite(firsts, atoms, node)


@rule("Gather")
def _gather(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    axis = int(flow.attributes(node).get("axis", 0)) % len(x)
    positions = flow.computed_value(node, 1) if node.input[1] in flow.tensors else None
    after = flow.shapes[node.output[0]]
    if positions is not None and positions.ndim == 1 and flow.is_free(x[axis]):
        picked = [_follow_positions(flow, node, x[axis], positions)]
    else:
        _pin_selected(flow, node, x[axis], positions)
        picked = flow.fixed(after[axis : axis + len(flow.shapes[node.input[1]])])
    flow.give(node.output[0], [*x[:axis], *picked, *x[axis + 1 :]])


def _follow_positions(flow: Flow, node: NodeProto, atoms: Atoms, positions: Ints) -> Atoms:
    """Channels at constant positions; each position is the number of channels before it."""
    name = node.input[1]
    flow.counted.extend(
        Counted(initializer=name, index=index, atoms=atoms[:position])
        for index, position in enumerate(positions.tolist())
        if position > 0
    )
    flow.labels[name] = [atoms[positions]]
    return atoms[positions]


def _pin_selected(flow: Flow, node: NodeProto, atoms: Atoms, positions: Ints | None) -> None:
    """Pin a channel that is taken alone, and those before it: they count its position."""
    alone = positions is not None and positions.ndim == 0
    end = int(positions) % len(atoms) + 1 if positions is not None and alone else len(atoms)
    flow.pin(atoms[:end], node, "selected by constant indices")


@rule("Pad")
def _pad(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    pads = flow.input_value(node, 1)
    axes = flow.input_value(node, 3) if len(node.input) > 3 and node.input[3] else np.arange(len(x))
    if pads is None or axes is None:
        raise Unsupported("its sizes are not constant")
    out = list(x)
    for index, axis in enumerate(int(a) % len(x) for a in axes):
        before = int(pads[index])
        after = int(pads[index + len(axes)])
        if before == after == 0:
            continue
        if not flow.is_free(x[axis]):
            out[axis] = np.zeros(len(x[axis]) + before + after, np.int64)
            continue
        if not _pads_zeros(flow, node) or min(before, after) < 0:
            raise Unsupported("channels are cropped, or padded with values other than zero")
        head = flow.table.fresh(before)
        tail = flow.table.fresh(after)
        out[axis] = np.concatenate([head, x[axis], tail])
        flow.counted.append(Counted(initializer=node.input[1], index=index, atoms=head))
        flow.counted.append(Counted(initializer=node.input[1], index=index + len(axes), atoms=tail))
    flow.give(node.output[0], out)


def _pads_zeros(flow: Flow, node: NodeProto) -> bool:
    fill = flow.input_value(node, 2) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    return (
        flow.attributes(node).get("mode", b"constant") == b"constant"
        and fill is not None
        and not np.any(fill)
    )


@rule("DepthToSpace", "SpaceToDepth")
def _depth(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    attributes = flow.attributes(node)
    squared = int(attributes["blocksize"]) ** 2
    after = flow.shapes[node.output[0]]
    if node.op_type == "SpaceToDepth":
        channels: Atoms = np.tile(x[1], squared)
    else:
        order = "crd" if attributes.get("mode") == b"CRD" else "dcr"
        rows: Ints = x[1].reshape(-1, squared) if order == "crd" else x[1].reshape(squared, -1).T
        flow.unite(np.repeat(rows[:, 0], squared), rows.ravel(), node)
        channels = rows[:, 0]
    flow.give(node.output[0], [x[0], channels, *flow.fixed(after[2:])])


@rule("Tile")
def _tile(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    repeats = flow.computed_value(node, 1)
    if repeats is None:
        raise Unsupported("its repeats are not constant")
    flow.give(
        node.output[0],
        [
            np.tile(a, int(r)) if len(a) > 1 else np.full(int(r), FIXED)
            for a, r in zip(x, repeats, strict=True)
        ],
    )
