"""Rules of operators with weights and of normalisations."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from pruning_client.graph.flow import Counted, Flow, Labels, Unsupported
from pruning_client.graph.labels import FIXED, Atoms
from pruning_client.graph.rules.registry import Registry

rule = Registry()


@rule("Conv")
def _conv(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    weight = flow.of(node.input[1])
    groups = int(flow.attributes(node).get("group", 1))
    if groups == 1:
        flow.unite(x[1], weight[1], node)
        out = weight[0]
    else:
        flow.pin(weight[1], node, "channels within one group of a grouped convolution")
        out = _grouped(flow, node, x[1], weight[0], groups)
    _finish(flow, node, x, out, weight[2:])


@rule("ConvTranspose")
def _conv_transpose(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    weight = flow.of(node.input[1])
    groups = int(flow.attributes(node).get("group", 1))
    flow.unite(x[1], weight[0], node)
    out = weight[1]
    if groups > 1:
        # weight [C_in, C_out / groups, ...]: output channels have no axis of their own, so they get
        # their atoms here
        flow.pin(weight[1], node, "channels within one group of a grouped convolution")
        out = _grouped(flow, node, x[1], flow.table.fresh(len(weight[1]) * groups), groups)
    _finish(flow, node, x, out, weight[2:])


def _grouped(flow: Flow, node: NodeProto, before: Atoms, after: Atoms, groups: int) -> Atoms:
    """Unite all inputs and outputs of each group, since only whole groups can be removed, and
    record that `group` depends on widths.
    """
    per_in = len(before) // groups
    per_out = len(after) // groups
    for channels, size in ((before, per_in), (after, per_out)):
        blocks = channels.reshape(groups, size)
        flow.unite(np.repeat(blocks[:, 0], size), blocks.ravel(), node)
    flow.unite(before[::per_in], after[::per_out], node)
    flow.counted.append(Counted(node=node.name, attribute="group", divisor=per_out, atoms=after))
    return after


def _finish(flow: Flow, node: NodeProto, x: Labels, out: Atoms, taps: Labels) -> None:
    for atoms in taps:
        flow.pin(atoms, node, "kernel positions")
    if len(node.input) > 2 and node.input[2]:
        flow.unite(flow.of(node.input[2])[0], out, node)
    flow.give(node.output[0], [x[0], out, *flow.fixed(flow.shapes[node.output[0]][2:])])


@rule("Gemm")
def _gemm(flow: Flow, node: NodeProto) -> None:
    attributes = flow.attributes(node)
    a = flow.of(node.input[0])
    b = flow.of(node.input[1])
    rows, inner = a[::-1] if attributes.get("transA") else a
    other, columns = b[::-1] if attributes.get("transB") else b
    flow.unite(inner, other, node)
    out = [rows, columns]
    if len(node.input) > 2 and node.input[2]:
        out = broadcast(flow, node, out, flow.of(node.input[2]))
    flow.give(node.output[0], out)


@rule("MatMul")
def _matmul(flow: Flow, node: NodeProto) -> None:
    a = flow.of(node.input[0])
    b = flow.of(node.input[1])
    if min(len(a), len(b)) < 2:
        raise Unsupported("products with vectors are not supported")
    flow.unite(a[-1], b[-2], node)
    flow.give(node.output[0], [*broadcast(flow, node, a[:-2], b[:-2]), a[-2], b[-1]])


@rule("Einsum")
def _einsum(flow: Flow, node: NodeProto) -> None:
    """Axes with one letter hold the same channels; a sum over channels is a sum of those left."""
    equation = flow.attributes(node)["equation"].decode().replace(" ", "")
    given, arrow, result = equation.partition("->")
    terms = given.split(",")
    if not arrow or "." in equation or any(len(set(t)) < len(t) for t in (*terms, result)):
        raise Unsupported("diagonals and axes without names are not supported")
    named: dict[str, Atoms] = {}
    for name, term in zip(node.input, terms, strict=True):
        for letter, atoms in zip(term, flow.of(name), strict=True):
            other = named.setdefault(letter, atoms)
            if len(other) == len(atoms):
                _unite_free(flow, node, other, atoms)
            if len(other) < len(atoms) or not flow.is_free(other):
                named[letter] = atoms
    flow.give(node.output[0], [named[letter] for letter in result])


@rule("BatchNormalization", "InstanceNormalization")
def _per_channel(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    for name in node.input[1:]:
        flow.unite(flow.of(name)[0], x[1], node)
    if node.op_type == "InstanceNormalization":
        _pin_all(flow, node, x[2:], "normalised over")
    flow.give(node.output[0], x)


@rule("LayerNormalization")
def _layer_norm(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    axis = int(flow.attributes(node).get("axis", -1)) % len(x)
    _pin_all(flow, node, x[axis:], "normalised over, so that removing one changes the others,")
    for name in node.input[1:]:
        for atoms, channels in zip(flow.of(name), x[axis:], strict=True):
            flow.unite(atoms, channels, node)
    flow.give(node.output[0], x)


@rule("GroupNormalization", "LpNormalization", "MeanVarianceNormalization", "LRN")
def _mixing(flow: Flow, node: NodeProto) -> None:
    raise Unsupported("normalised over, so that removing one channel changes the others")


@rule("GRU", "LSTM", "RNN")
def _recurrent(flow: Flow, node: NodeProto) -> None:
    """Channels of the inputs may go; those of the state are read by the layer itself."""
    x, weight = flow.of(node.input[0]), flow.of(node.input[1])
    flow.unite(x[2], weight[2], node)
    for name in node.input[1:]:
        own = flow.of(name)[:2] if name == node.input[1] else flow.of(name) if name else []
        _pin_all(flow, node, own, "part of a recurrent layer's state")
    for name in node.output:
        if name:
            flow.give(name, flow.fixed(flow.shapes[name]))


def _pin_all(flow: Flow, node: NodeProto, axes: Labels, why: str) -> None:
    for atoms in axes:
        flow.pin(atoms, node, why)


def broadcast(flow: Flow, node: NodeProto, a: Labels, b: Labels) -> Labels:
    """Labels of an elementwise result: axes are aligned from the right, equal ones united, those
    of size one broadcast.
    """
    rank = max(len(a), len(b))
    one = [np.array([FIXED])]
    out: Labels = []
    for first, second in zip(one * (rank - len(a)) + a, one * (rank - len(b)) + b, strict=True):
        if len(first) == len(second):
            _unite_free(flow, node, first, second)
            out.append(first if flow.is_free(first) else second)
        else:
            out.append(first if len(first) > len(second) else second)
    return out


def _unite_free(flow: Flow, node: NodeProto, a: Atoms, b: Atoms) -> None:
    if len(a) > 1:
        flow.unite(a, b, node)
