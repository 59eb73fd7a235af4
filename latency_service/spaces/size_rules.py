"""Shapes of nodes' outputs, in whole numbers of any length: one rule for each operator that can
make something larger than its inputs.

A rule gives one shape for each output, None where it cannot tell. Shapes that contradict each other
raise ValueError, IndexError or TypeError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from onnx import NodeProto, TensorProto

from latency_service.spaces.tensors import (
    Known,
    Shape,
    Tensors,
    attributes,
)


def _same(node: NodeProto, known: Tensors) -> Sequence[Known]:
    return [known.shape(node, 0)]


def _broadcast(node: NodeProto, known: Tensors) -> Sequence[Known]:
    shapes = [known.shape(node, index) for index in range(len(node.input))]
    return [None if None in shapes else _joined(shape for shape in shapes if shape is not None)]


def _joined(shapes: Iterable[Shape]) -> Shape:
    """The shape of tensors that are broadcast to each other."""
    whole: Shape = ()
    for shape in shapes:
        rank = max(len(whole), len(shape))
        pairs = zip(_padded(whole, rank), _padded(shape, rank), strict=True)
        whole = tuple(_one_size(a, b) for a, b in pairs)
    return whole


def _padded(shape: Shape, rank: int) -> Shape:
    return (1,) * (rank - len(shape)) + shape


def _one_size(a: int, b: int) -> int:
    if a != b and 1 not in (a, b):
        raise ValueError(f"{a} and {b} differ")
    return b if a == 1 else a


def _convolution(node: NodeProto, known: Tensors) -> Sequence[Known]:
    before = known.shape(node, 0)
    weight = known.shape(node, 1)
    if before is None or weight is None:
        return [None]
    _check_filters(node, before, weight)
    return [(before[0], weight[0], *_windows(node, before[2:], weight[2:]))]


def _check_filters(node: NodeProto, before: Shape, weight: Shape) -> None:
    groups = attributes(node).get("group", 1)
    if len(weight) != len(before) or len(weight) < 3 or groups < 1:
        raise ValueError("ranks")
    if node.op_type == "Conv" and (before[1] != weight[1] * groups or weight[0] % groups):
        raise ValueError("channels")
    if node.op_type == "ConvTranspose" and (before[1] != weight[0] or weight[0] % groups):
        raise ValueError("channels")


def _pooling(node: NodeProto, known: Tensors) -> Sequence[Known]:
    before = known.shape(node, 0)
    given = attributes(node)
    if before is None or given.get("ceil_mode"):
        return [None]
    after = (*before[:2], *_windows(node, before[2:], given["kernel_shape"]))
    return [after] * len(node.output)


def _windows(node: NodeProto, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Places of a window on every spatial axis."""
    given = attributes(node)
    rank = len(sizes)
    strides = given.get("strides", [1] * rank)
    dilations = given.get("dilations", [1] * rank)
    pads = given.get("pads", [0] * 2 * rank)
    _check_window(rank, kernel, strides, dilations, pads)
    auto = given.get("auto_pad", b"NOTSET")
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        return [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
    places = []
    for axis, size in enumerate(sizes):
        rest = size + pads[axis] + pads[axis + rank] - dilations[axis] * (kernel[axis] - 1) - 1
        if rest < 0:
            raise ValueError("the window is larger than the input")
        places.append(rest // strides[axis] + 1)
    return places


def _check_window(rank: int, *numbers: Sequence[int]) -> None:
    kernel, strides, dilations, pads = numbers
    if any(len(each) != rank for each in (kernel, strides, dilations)) or len(pads) != 2 * rank:
        raise ValueError("lengths")
    if min([*kernel, *strides, *dilations]) < 1 or min(pads) < 0:
        raise ValueError("a size below 1")


def _transposed(node: NodeProto, known: Tensors) -> Sequence[Known]:
    before = known.shape(node, 0)
    weight = known.shape(node, 1)
    if before is None or weight is None:
        return [None]
    _check_filters(node, before, weight)
    given = attributes(node)
    rank = len(before) - 2
    strides = given.get("strides", [1] * rank)
    dilations = given.get("dilations", [1] * rank)
    pads = given.get("pads", [0] * 2 * rank)
    extra = given.get("output_padding", [0] * rank)
    _check_window(rank, weight[2:], strides, dilations, pads)
    sizes = [
        strides[axis] * (before[axis + 2] - 1)
        + extra[axis]
        + dilations[axis] * (weight[axis + 2] - 1)
        + 1
        - pads[axis]
        - pads[axis + rank]
        for axis in range(rank)
    ]
    fixed = given.get("output_shape")
    channels = weight[1] * given.get("group", 1)
    return [(before[0], channels, *(fixed[-rank:] if fixed else sizes))]


def _global_pooling(node: NodeProto, known: Tensors) -> Sequence[Known]:
    before = known.shape(node, 0)
    return [None if before is None else (*before[:2], *[1] * (len(before) - 2))]


def _gemm(node: NodeProto, known: Tensors) -> Sequence[Known]:
    left = known.shape(node, 0)
    right = known.shape(node, 1)
    if left is None or right is None:
        return [None]
    given = attributes(node)
    rows, inner = reversed(left) if given.get("transA") else left
    depth, columns = reversed(right) if given.get("transB") else right
    if inner != depth:
        raise ValueError("sizes")
    return [(rows, columns)]


def _product(node: NodeProto, known: Tensors) -> Sequence[Known]:
    left = known.shape(node, 0)
    right = known.shape(node, 1)
    if left is None or right is None:
        return [None]
    if len(left) < 2 or len(right) < 2:
        return [_vector_product(left, right)]
    if left[-1] != right[-2]:
        raise ValueError("sizes")
    return [(*_joined([left[:-2], right[:-2]]), left[-2], right[-1])]


def _vector_product(left: Shape, right: Shape) -> Known:
    """Not known, once the sizes that are summed over agree."""
    if left[-1] != right[max(0, len(right) - 2)]:
        raise ValueError("sizes")
    return None


def _concatenation(node: NodeProto, known: Tensors) -> Sequence[Known]:
    shapes = [known.shape(node, index) for index in range(len(node.input))]
    if None in shapes:
        return [None]
    axis = attributes(node)["axis"]
    whole = list(shapes[0] or ())
    whole[axis] = sum((shape or ())[axis] for shape in shapes)
    return [tuple(whole)]


def _reshape(node: NodeProto, known: Tensors) -> Sequence[Known]:
    wanted = known.sizes(node, 1, "shape")
    before = known.shape(node, 0)
    if wanted is None or before is None or attributes(node).get("allowzero"):
        return [None]
    sizes = [before[i] if size == 0 else size for i, size in enumerate(wanted)]
    if -1 in sizes:
        rest = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = math.prod(before) // rest
    if math.prod(sizes) != math.prod(before):
        raise ValueError("sizes")
    return [tuple(sizes)]


def _flatten(node: NodeProto, known: Tensors) -> Sequence[Known]:
    before = known.shape(node, 0)
    if before is None:
        return [None]
    axis = attributes(node).get("axis", 1)
    return [(math.prod(before[:axis]), math.prod(before[axis:]))]


def _transpose(node: NodeProto, known: Tensors) -> Sequence[Known]:
    before = known.shape(node, 0)
    if before is None:
        return [None]
    order = attributes(node).get("perm", [*reversed(range(len(before)))])
    if sorted(order) != list(range(len(before))):
        raise ValueError("axes")
    return [tuple(before[axis] for axis in order)]


def _shape(node: NodeProto, known: Tensors) -> Sequence[Known]:
    before = known.shape(node, 0)
    return [None if before is None else (len(before[start_end(node)]),)]


def start_end(node: NodeProto) -> slice:
    given = attributes(node)
    return slice(given.get("start", 0), given.get("end"))


def _filled(node: NodeProto, known: Tensors) -> Sequence[Known]:
    return [known.sizes(node, 0)]


def _expand(node: NodeProto, known: Tensors) -> Sequence[Known]:
    wanted = known.sizes(node, 1)
    before = known.shape(node, 0)
    return [None if wanted is None or before is None else _joined([before, wanted])]


def _tile(node: NodeProto, known: Tensors) -> Sequence[Known]:
    repeats = known.sizes(node, 1)
    before = known.shape(node, 0)
    if repeats is None or before is None:
        return [None]
    return [tuple(size * times for size, times in zip(before, repeats, strict=True))]


def _pad(node: NodeProto, known: Tensors) -> Sequence[Known]:
    pads = known.value(node, 1, "pads")
    before = known.shape(node, 0)
    if pads is None or before is None or known.value(node, 3) is not None:
        return [None]
    rank = len(before)
    return [tuple(size + pads[i] + pads[i + rank] for i, size in enumerate(before))]


def _range(node: NodeProto, known: Tensors) -> Sequence[Known]:
    ends = [known.value(node, index) for index in range(3)]
    if None in ends:
        return [None]
    start, limit, step = ((end or (0,))[0] for end in ends)
    return [(max(0, -(-(limit - start) // step)),)]


def _resize(node: NodeProto, known: Tensors) -> Sequence[Known]:
    sizes = known.value(node, 3)
    scales = known.factors.get(node.input[min(2, len(node.input) - 1)])
    before = known.shape(node, 0)
    if sizes is not None or scales is None or before is None or "axes" in attributes(node):
        return [sizes if "axes" not in attributes(node) else None]
    return [tuple(math.floor(size * scale) for size, scale in zip(before, scales, strict=True))]


def _constant(node: NodeProto, known: Tensors) -> Sequence[Known]:
    given = attributes(node)
    if isinstance(given.get("value"), TensorProto):
        return [tuple(given["value"].dims)]
    return [(len(given["value_ints"]),)] if "value_ints" in given else [None]


def _gather(node: NodeProto, known: Tensors) -> Sequence[Known]:
    before = known.shape(node, 0)
    indices = known.shape(node, 1)
    if before is None or indices is None:
        return [None]
    axis = attributes(node).get("axis", 0) % len(before)
    return [(*before[:axis], *indices, *before[axis + 1 :])]


def _unsqueeze(node: NodeProto, known: Tensors) -> Sequence[Known]:
    axes = known.value(node, 1, "axes")
    before = known.shape(node, 0)
    if axes is None or before is None:
        return [None]
    rank = len(before) + len(axes)
    new = {axis % rank for axis in axes}
    old = iter(before)
    return [tuple(1 if axis in new else next(old) for axis in range(rank))]


Rule = Callable[[NodeProto, Tensors], Sequence[Known]]

_SAME = (
    "Abs BatchNormalization Cast Ceil Celu Clip CumSum Dropout Elu Erf Exp Floor Gelu "
    "GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsNaN "
    "LayerNormalization LeakyRelu Log LogSoftmax LpNormalization LRN Mish Neg Not Reciprocal Relu "
    "Round Selu Sigmoid Sign Sin Cos Softmax Softplus Softsign Sqrt Tanh ThresholdedRelu"
)
_BROADCAST = (
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow PRelu "
    "Sub Sum Where Xor"
)
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_SAME.split(), _same),
    **dict.fromkeys(_BROADCAST.split(), _broadcast),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pooling),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), _global_pooling),
    "Concat": _concatenation,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _product,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
