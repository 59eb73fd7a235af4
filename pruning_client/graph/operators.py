"""ONNX operators as torch functions, with ONNX's order of inputs and names of attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import helper
from torch import Tensor
from torch.nn import functional as F

from pruning_client.graph.pointwise import POINTWISE

Sizes = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """Torch form of an operator."""

    function: Callable[..., Any]
    #: Indices of the inputs that are passed as plain numbers, not as tensors.
    settings: frozenset[int] = frozenset()


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, **settings: Any) -> Tensor:
    rank = weight.dim() - 2
    padding, x = _padding(x, settings.get("pads"), rank)
    function: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    return function(
        x,
        weight,
        bias,
        stride=_each(settings.get("strides"), rank),
        padding=padding,
        dilation=_each(settings.get("dilations"), rank),
        groups=settings.get("group", 1),
    )


def conv_transpose(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, **settings: Any
) -> Tensor:
    rank = weight.dim() - 2
    pads = settings.get("pads") or [0] * (2 * rank)
    function: Callable[..., Tensor] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[
        rank - 1
    ]
    return function(
        x,
        weight,
        bias,
        stride=_each(settings.get("strides"), rank),
        padding=tuple(pads[:rank]),
        output_padding=tuple(settings.get("output_padding") or [0] * rank),
        groups=settings.get("group", 1),
        dilation=_each(settings.get("dilations"), rank),
    )


def gemm(a: Tensor, b: Tensor, c: Tensor | None = None, **settings: Any) -> Tensor:
    alpha = float(settings.get("alpha", 1.0))
    beta = float(settings.get("beta", 1.0))
    left = a.transpose(0, 1) if settings.get("transA") else a
    weight = b if settings.get("transB") else b.transpose(0, 1)
    if alpha == beta == 1.0 and (c is None or c.dim() == 1):
        # exported as one Gemm again
        return F.linear(left, weight, c)
    product: Tensor = alpha * F.linear(left, weight)
    return product if c is None else product + beta * c


def batch_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float = 1e-5,
    **_: Any,
) -> Tensor:
    return F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def instance_norm(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float = 1e-5) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def layer_norm(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Tensor:
    return F.layer_norm(x, x.shape[axis:], scale, bias, epsilon)


def reshape(x: Tensor, shape: Sizes) -> Tensor:
    return x.reshape([x.shape[index] if size == 0 else size for index, size in enumerate(shape)])


def flatten(x: Tensor, axis: int = 1) -> Tensor:
    return x.flatten(axis)


def transpose(x: Tensor, perm: Sizes) -> Tensor:
    return x.permute(*perm)


def concat(*parts: Tensor, axis: int) -> Tensor:
    return torch.cat(parts, dim=axis)


def split(x: Tensor, sizes: Sizes, axis: int = 0) -> Sequence[Tensor]:
    return torch.split(x, list(sizes), dim=axis)


def slice_(
    x: Tensor, starts: Sizes, ends: Sizes, axes: Sizes | None = None, steps: Sizes | None = None
) -> Tensor:
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = index if axes is None else axes[index]
        step = 1 if steps is None else steps[index]
        # indexing with brackets would be exported as one Slice for each axis
        x = torch.ops.aten.slice.Tensor(x, axis, start, end, step)
    return x


def pad(
    x: Tensor,
    pads: Sizes,
    value: float | None = None,
    axes: Sizes | None = None,
    mode: str = "constant",
) -> Tensor:
    edges = _torch_edges(x.dim(), pads, axes)
    if mode == "constant":
        return F.pad(x, edges, value=value or 0.0)
    return F.pad(x, edges, mode={"edge": "replicate", "wrap": "circular"}.get(mode, mode))


def _torch_edges(rank: int, pads: Sizes, axes: Sizes | None) -> list[int]:
    """Padding in torch's order, from the last axis to the first padded one, begin before end."""
    padded = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    edges = {axis: (pads[index], pads[index + len(padded)]) for index, axis in enumerate(padded)}
    used = [axis for axis in edges if edges[axis] != (0, 0)]
    first = min(used, default=rank)
    return [edge for axis in reversed(range(first, rank)) for edge in edges.get(axis, (0, 0))]


def expand(x: Tensor, shape: Sizes) -> Tensor:
    lead = len(shape) - x.dim()
    return x.expand([size if index < lead or size > 1 else -1 for index, size in enumerate(shape)])


def shape(x: Tensor, start: int = 0, end: int | None = None) -> Sizes:
    return x.shape[start:end]


def squeeze(x: Tensor, axes: Sizes) -> Tensor:
    return x.squeeze(tuple(axes))


def unsqueeze(x: Tensor, axes: Sizes) -> Tensor:
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def gather(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    picked: list[Any] = [slice(None)] * x.dim()
    picked[axis] = indices
    return x[tuple(picked)]


def max_pool(x: Tensor, **settings: Any) -> Tensor:
    rank = x.dim() - 2
    padding, x = _padding(x, settings.get("pads"), rank, value=-math.inf)
    function: Callable[..., Tensor] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    return function(
        x,
        settings["kernel_shape"],
        stride=_each(settings.get("strides"), rank),
        padding=padding,
        dilation=_each(settings.get("dilations"), rank),
        ceil_mode=bool(settings.get("ceil_mode", 0)),
    )


def average_pool(x: Tensor, **settings: Any) -> Tensor:
    rank = x.dim() - 2
    pads = settings.get("pads") or [0] * (2 * rank)
    if pads[:rank] != pads[rank:]:
        raise ValueError("average pooling with asymmetric padding has no torch form")
    function: Callable[..., Tensor] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    return function(
        x,
        settings["kernel_shape"],
        stride=_each(settings.get("strides"), rank),
        padding=tuple(pads[:rank]),
        ceil_mode=bool(settings.get("ceil_mode", 0)),
        count_include_pad=bool(settings.get("count_include_pad", 0)),
    )


def global_average(x: Tensor) -> Tensor:
    return x.mean(dim=tuple(range(2, x.dim())), keepdim=True)


def global_max(x: Tensor) -> Tensor:
    return x.amax(dim=tuple(range(2, x.dim())), keepdim=True)


def resize(
    x: Tensor,
    roi: Any = None,
    scales: Sequence[float] | None = None,
    sizes: Sizes | None = None,
    **settings: Any,
) -> Tensor:
    rank = x.dim() - 2
    mode = settings.get("mode", "nearest")
    where = settings.get("coordinate_transformation_mode", "half_pixel")
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[rank]
    torch_mode = {"nearest": "nearest", "linear": linear, "cubic": "bicubic"}[mode]
    corners = None if mode == "nearest" else where == "align_corners"
    if sizes:
        return F.interpolate(x, size=list(sizes[-rank:]), mode=torch_mode, align_corners=corners)
    assert scales is not None
    return F.interpolate(
        x, scale_factor=list(scales[-rank:]), mode=torch_mode, align_corners=corners
    )


def depth_to_space(x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    batch, channels, height, width = x.shape
    y = x.reshape(batch, blocksize, blocksize, channels // blocksize**2, height, width)
    return y.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * blocksize, width * blocksize)


def clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    return x if low is None and high is None else torch.clamp(x, low, high)


def leaky_relu(x: Tensor, alpha: float = 0.01) -> Tensor:
    return F.leaky_relu(x, alpha)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return F.elu(x, alpha)


def hard_sigmoid(x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, slope * x, x)


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    return torch.softmax(x, dim=axis)


def log_softmax(x: Tensor, axis: int = -1) -> Tensor:
    return torch.log_softmax(x, dim=axis)


def cast(x: Tensor, to: int) -> Tensor:
    return x.to(torch.from_numpy(np.zeros(0, helper.tensor_dtype_to_np_dtype(to))).dtype)


def identity(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


def reduce_mean(
    x: Tensor, axes: Sizes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return x.mean(dim=_axes(x, axes), keepdim=bool(keepdims))


def reduce_sum(
    x: Tensor, axes: Sizes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return x.sum(dim=_axes(x, axes), keepdim=bool(keepdims))


def reduce_max(
    x: Tensor, axes: Sizes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return x.amax(dim=_axes(x, axes), keepdim=bool(keepdims))


def reduce_min(
    x: Tensor, axes: Sizes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return x.amin(dim=_axes(x, axes), keepdim=bool(keepdims))


def reduce_l2(
    x: Tensor, axes: Sizes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=_axes(x, axes), keepdim=bool(keepdims))
    return norm


def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return F.celu(x, alpha)


def add_all(*parts: Tensor) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _axes(x: Tensor, axes: Sizes | None) -> tuple[int, ...]:
    return tuple(range(x.dim())) if axes is None else tuple(axes)


def _each(values: Sizes | None, rank: int) -> tuple[int, ...]:
    return tuple(values) if values else (1,) * rank


def _padding(
    x: Tensor, pads: Sizes | None, rank: int, value: float = 0.0
) -> tuple[tuple[int, ...], Tensor]:
    """Padding as an argument, and the input; asymmetric padding is applied to the input."""
    pads = list(pads or [0] * (2 * rank))
    if pads[:rank] == pads[rank:]:
        return tuple(pads[:rank]), x
    edges = [edge for axis in reversed(range(rank)) for edge in (pads[axis], pads[axis + rank])]
    return (0,) * rank, F.pad(x, edges, value=value)


def _operator(function: Callable[..., Any], *settings: int) -> Operator:
    return Operator(function=function, settings=frozenset(settings))


OPERATORS: dict[str, Operator] = {
    **{name: _operator(function) for name, function in POINTWISE.items()},
    "AveragePool": _operator(average_pool),
    "BatchNormalization": _operator(batch_norm),
    "Cast": _operator(cast),
    "CastLike": _operator(identity),
    "Celu": _operator(celu),
    "Clip": _operator(clip, 1, 2),
    "Concat": _operator(concat),
    "Conv": _operator(conv),
    "ConvTranspose": _operator(conv_transpose),
    "DepthToSpace": _operator(depth_to_space),
    "Dropout": _operator(identity),
    "Elu": _operator(elu),
    "Expand": _operator(expand, 1),
    "Flatten": _operator(flatten),
    "Gather": _operator(gather),
    "Gelu": _operator(gelu),
    "Gemm": _operator(gemm),
    "GlobalAveragePool": _operator(global_average),
    "GlobalMaxPool": _operator(global_max),
    "HardSigmoid": _operator(hard_sigmoid),
    "Identity": _operator(identity),
    "InstanceNormalization": _operator(instance_norm),
    "LayerNormalization": _operator(layer_norm),
    "LeakyRelu": _operator(leaky_relu),
    "LogSoftmax": _operator(log_softmax),
    "MaxPool": _operator(max_pool),
    "PRelu": _operator(prelu),
    "Pad": _operator(pad, 1, 2, 3),
    "ReduceL2": _operator(reduce_l2, 1),
    "ReduceMax": _operator(reduce_max, 1),
    "ReduceMean": _operator(reduce_mean, 1),
    "ReduceMin": _operator(reduce_min, 1),
    "ReduceSum": _operator(reduce_sum, 1),
    "Reshape": _operator(reshape, 1),
    "Resize": _operator(resize, 1, 2, 3),
    "Shape": _operator(shape),
    "Slice": _operator(slice_, 1, 2, 3, 4),
    "Softmax": _operator(softmax),
    "Split": _operator(split, 1),
    "Squeeze": _operator(squeeze, 1),
    "Sum": _operator(add_all),
    "Transpose": _operator(transpose),
    "Unsqueeze": _operator(unsqueeze, 1),
}
