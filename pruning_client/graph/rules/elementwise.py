"""Rules of operators that keep positions: activations, arithmetic, pooling, reductions."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from pruning_client.graph.flow import Counted, Flow, Unsupported
from pruning_client.graph.rules.registry import Registry
from pruning_client.graph.rules.weighted import broadcast

rule = Registry()


@rule(
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
)
def _unary(flow: Flow, node: NodeProto) -> None:
    for name in node.output:
        if name:
            flow.give(name, flow.of(node.input[0]))


@rule(
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
)
def _elementwise(flow: Flow, node: NodeProto) -> None:
    out = flow.of(node.input[0])
    for name in node.input[1:]:
        out = broadcast(flow, node, out, flow.of(name))
    flow.give(node.output[0], out)


@rule("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool")
def _pool(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    for name in node.output:
        if name:
            flow.give(name, [x[0], x[1], *flow.fixed(flow.shapes[name][2:])])


@rule("Resize", "Upsample")
def _resize(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    after = flow.shapes[node.output[0]]
    kept = [len(atoms) == size for atoms, size in zip(x, after, strict=True)]
    for atoms, same in zip(x, kept, strict=True):
        if not same and flow.is_free(atoms):
            raise Unsupported("channels are resized")
    sizes = flow.input_value(node, 3) if len(node.input) > 3 and node.input[3] else None
    if sizes is not None and len(sizes) == len(x):
        # computed sizes adapt by themselves, constants must be recorded
        flow.counted.extend(
            Counted(initializer=node.input[3], index=axis, atoms=atoms)
            for axis, atoms in enumerate(x)
        )
    flow.give(
        node.output[0],
        [a if same else f for a, same, f in zip(x, kept, flow.fixed(after), strict=True)],
    )


@rule(
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceProd",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
)
def _reduce(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    attributes = flow.attributes(node)
    axes = (
        flow.input_value(node, 1)
        if len(node.input) > 1 and node.input[1]
        else attributes.get("axes")
    )
    if axes is None:
        if attributes.get("noop_with_empty_axes"):
            raise Unsupported("its axes are unknown")
        axes = range(len(x))
    reduced = {int(axis) % len(x) for axis in np.asarray(axes).ravel()}
    for axis in reduced:
        flow.pin(x[axis], node, "reduced over")
    if attributes.get("keepdims", 1):
        flow.give(
            node.output[0],
            [np.zeros(1, np.int64) if a in reduced else atoms for a, atoms in enumerate(x)],
        )
    else:
        flow.give(node.output[0], [atoms for a, atoms in enumerate(x) if a not in reduced])


@rule("Softmax", "LogSoftmax", "Hardmax", "CumSum", "ArgMax", "ArgMin")
def _along(flow: Flow, node: NodeProto) -> None:
    x = flow.of(node.input[0])
    attributes = flow.attributes(node)
    given = attributes.get("axis", 0 if node.op_type.startswith("Arg") else -1)
    if node.op_type == "CumSum":
        given = flow.computed_value(node, 1)
        if given is None:
            raise Unsupported("its axis is not constant")
    axis = int(np.ravel(given)[0]) % len(x)
    flow.pin(x[axis], node, "compared with each other")
    if not node.op_type.startswith("Arg"):
        flow.give(node.output[0], x)
    elif attributes.get("keepdims", 1):
        flow.give(
            node.output[0],
            [np.zeros(1, np.int64) if a == axis else atoms for a, atoms in enumerate(x)],
        )
    else:
        flow.give(node.output[0], [atoms for a, atoms in enumerate(x) if a != axis])


@rule("Shape", "Size", "ConstantOfShape", "Range")
def _number(flow: Flow, node: NodeProto) -> None:
    """Shape arithmetic: it adapts to widths by itself, and its elements are not channels."""
    flow.give(node.output[0], flow.fixed(flow.shapes[node.output[0]]))
