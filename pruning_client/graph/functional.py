"""Exported programs that torch's exporter to ONNX need not trace a second time.

The exporter decomposes every program into the operators that it translates, by running it once more
on symbols: half of the time of an export. Most networks consist of operators that it translates as
they are, of batch norms in eval mode, and of operators that write to their input, which nothing
else reads: those are replaced here in the program's own graph. Every other program is left to the
exporter.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

_aten = torch.ops.aten

#: Operators that the exporter translates as they are, and whose result shares no memory with an
#: input.
_FRESH = frozenset(
    {
        _aten.add.Tensor,
        _aten.avg_pool2d.default,
        _aten.cat.default,
        _aten.clamp.default,
        _aten.clone.default,
        _aten.constant_pad_nd.default,
        _aten.conv1d.default,
        _aten.conv2d.default,
        _aten.div.Tensor,
        _aten.elu.default,
        _aten.exp.default,
        _aten.gelu.default,
        _aten.group_norm.default,
        _aten.hardsigmoid.default,
        _aten.hardswish.default,
        _aten.hardtanh.default,
        _aten.layer_norm.default,
        _aten.leaky_relu.default,
        _aten.linear.default,
        _aten.log_softmax.int,
        _aten.matmul.default,
        _aten.max_pool2d.default,
        _aten.mean.dim,
        _aten.mish.default,
        _aten.mul.Tensor,
        _aten.pad.default,
        _aten.pixel_shuffle.default,
        _aten.prelu.default,
        _aten.relu.default,
        _aten.relu6.default,
        _aten.roll.default,
        _aten.sigmoid.default,
        _aten.silu.default,
        _aten.softmax.int,
        _aten.sqrt.default,
        _aten.sub.Tensor,
        _aten.sum.dim_IntList,
        _aten.sym_size.int,
        _aten.tanh.default,
        _aten.upsample_bilinear2d.vec,
        _aten.upsample_nearest2d.vec,
        operator.add,
        operator.floordiv,
        operator.mul,
        operator.sub,
    }
)
#: The same of operators whose result may be a view of their input.
_VIEWS = frozenset(
    {
        _aten.chunk.default,
        _aten.contiguous.default,
        _aten.expand.default,
        _aten.flatten.using_ints,
        _aten.permute.default,
        _aten.reshape.default,
        _aten.select.int,
        _aten.slice.Tensor,
        _aten.split.Tensor,
        _aten.split_with_sizes.default,
        _aten.squeeze.dim,
        _aten.transpose.int,
        _aten.unsqueeze.default,
        _aten.view.default,
        operator.getitem,
    }
)
#: Operators that write to their first input, and those that do not.
_IN_PLACE: Mapping[Any, Any] = {
    _aten.add_.Tensor: _aten.add.Tensor,
    _aten.elu_.default: _aten.elu.default,
    _aten.hardsigmoid_.default: _aten.hardsigmoid.default,
    _aten.hardswish_.default: _aten.hardswish.default,
    _aten.hardtanh_.default: _aten.hardtanh.default,
    _aten.leaky_relu_.default: _aten.leaky_relu.default,
    _aten.mish_.default: _aten.mish.default,
    _aten.mul_.Tensor: _aten.mul.Tensor,
    _aten.relu_.default: _aten.relu.default,
    _aten.relu6_.default: _aten.relu6.default,
    _aten.sigmoid_.default: _aten.sigmoid.default,
    _aten.silu_.default: _aten.silu.default,
    _aten.sub_.Tensor: _aten.sub.Tensor,
    _aten.tanh_.default: _aten.tanh.default,
}
#: Operators that compute with numbers as well as with tensors.
_ARITHMETIC = frozenset(
    {
        _aten.add.Tensor,
        _aten.clamp.default,
        _aten.div.Tensor,
        _aten.mul.Tensor,
        _aten.sub.Tensor,
    }
)
_DROPOUT = frozenset({_aten.dropout.default, _aten.dropout_.default})
_NORM = _aten.batch_norm.default
_ADAPTIVE_POOL = _aten.adaptive_avg_pool2d.default


def functional(program: ExportedProgram) -> ExportedProgram:
    """A program, changed in place such that it need not be traced again, where that is possible."""
    graph = program.graph_module.graph
    newest = _inputs_as_written(graph)
    if newest is None:
        return program
    for node, inputs in newest.items():
        for old, new in inputs.items():
            node.replace_input_with(old, new)
    for node in reversed(list(graph.nodes)):
        if node.target in _IN_PLACE:
            node.target = _IN_PLACE[node.target]
        elif node.target in _DROPOUT:
            graph.erase_node(node)
        elif node.target is _NORM:
            _replace_norm(graph, node)
        elif node.target is _ADAPTIVE_POOL:
            _replace_pool(node)
    # what the exporter calls to trace it again
    program.run_decompositions = lambda *_, **__: program
    if _is_of_one_float(graph):
        # the exporter would run every operator once more to look for types to promote, and look
        # for assertions: there are none of either
        program.graph_module.modules = lambda *_: iter(())
    return program


def _is_of_one_float(graph: fx.Graph) -> bool:
    """Whether all tensors that operators take and return are of one floating type."""
    found: set[torch.dtype | None] = set()
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        for one in (node, *node.all_input_nodes):
            for value in pytree.tree_leaves(one.meta.get("val")):
                if isinstance(value, torch.Tensor):
                    found.add(value.dtype)
                elif node.target in _ARITHMETIC:
                    found.add(None)  # a size of the batch, which becomes a tensor
    return len(found) == 1 and all(kind and kind.is_floating_point for kind in found)


def _inputs_as_written(graph: fx.Graph) -> dict[fx.Node, dict[fx.Node, fx.Node]] | None:
    """For each node the inputs that others have written to before, with the nodes that hold what
    was written; None where the program has to be traced again.
    """
    holder: dict[fx.Node, fx.Node] = {}
    viewed: set[fx.Node] = set()
    found = {}
    for node in graph.nodes:
        now = {one: _last(holder, one) for one in node.all_input_nodes}
        found[node] = {one: last for one, last in now.items() if last is not one}
        if node.op == "output" and found[node]:
            return None
        if node.op != "call_function":
            continue
        if node.target in _VIEWS:
            viewed.update(now.values())
        elif node.target in _DROPOUT:
            source, _, training = _args(node)
            if training:
                return None
            holder[node] = now[source]
        elif node.target in _IN_PLACE:
            written = now[_args(node)[0]]
            if written in viewed or not _is_fresh(written) or not _is_of_one_type(node):
                return None
            holder[written] = node
        elif not _is_replaceable(node) and node.target not in _FRESH:
            return None
    return found


def _args(node: fx.Node) -> tuple[Any, ...]:
    return node.args


def _last(holder: Mapping[fx.Node, fx.Node], node: fx.Node) -> fx.Node:
    while node in holder:
        node = holder[node]
    return node


def _is_fresh(node: fx.Node) -> bool:
    """Whether nothing else shares memory with the result of a node."""
    return node.target in _FRESH or node.target in _IN_PLACE or node.target is _NORM


def _is_of_one_type(node: fx.Node) -> bool:
    """Whether an operator that writes to its input leaves its type as it is."""
    values = [one.meta["val"] for one in node.all_input_nodes]
    return len({getattr(value, "dtype", type(value)) for value in values}) == 1


def _is_replaceable(node: fx.Node) -> bool:
    if node.target is _NORM:
        _, _, _, mean, _, training, *_ = _args(node)
        return mean is not None and not training
    return node.target is _ADAPTIVE_POOL and _window(node) is not None


def _window(node: fx.Node) -> list[int] | None:
    """Window [2] of the average pooling that an adaptive one is, where its windows are equal."""
    images, wanted = _args(node)
    sizes = images.meta["val"].shape[-2:]
    pairs = list(zip(sizes, wanted, strict=True))
    if any(not isinstance(size, int) or size % out for size, out in pairs):
        return None
    return [size // out for size, out in pairs]


def _replace_norm(graph: fx.Graph, node: fx.Node) -> None:
    images, weight, bias, mean, variance, _, momentum, eps, _ = _args(node)
    with graph.inserting_before(node):
        norm = graph.call_function(
            _aten._native_batch_norm_legit_no_training.default,
            (images, weight, bias, mean, variance, momentum, eps),
        )
    nothing = node.meta["val"].new_empty(0)
    norm.meta = {**node.meta, "val": (node.meta["val"], nothing, nothing)}
    node.target, node.args = operator.getitem, (norm, 0)


def _replace_pool(node: fx.Node) -> None:
    images, wanted = _args(node)
    if list(wanted) == [1, 1]:
        node.target, node.args = _aten.mean.dim, (images, [-1, -2], True)
    else:
        window = _window(node)
        node.target, node.args = _aten.avg_pool2d.default, (images, window, window)
