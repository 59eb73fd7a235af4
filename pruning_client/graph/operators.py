"""ONNX operators as torch functions, with ONNX's order of inputs and names of attributes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import helper
from torch import Tensor
from torch.nn import functional as F

from pruning_client.graph import layer_operators as layers
from pruning_client.graph import reductions
from pruning_client.graph.layer_operators import Sizes
from pruning_client.graph.pointwise import POINTWISE


@dataclass(frozen=True, kw_only=True)
class Operator:
    """Torch form of an operator."""

    function: Callable[..., Any]
    #: Indices of the inputs that are passed as plain numbers, not as tensors.
    settings: frozenset[int] = frozenset()


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
        if step < 0:
            x = _backwards(x, axis, start, end, step)
            continue
        # indexing with brackets would be exported as one Slice for each axis
        x = torch.ops.aten.slice.Tensor(x, axis, start, end, step)
    return x


def _backwards(x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    size = x.shape[axis]
    stop = end if end >= -size else None
    if step == -1 and start in (-1, size - 1) and stop is None:
        return x.flip(axis)
    positions = list(range(*slice(start, stop, step).indices(size)))
    return gather(x, torch.tensor(positions, device=x.device), axis)


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


def tile(x: Tensor, repeats: Sizes) -> Tensor:
    return x.repeat(*repeats)


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


def gather_elements(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    return x.gather(axis, indices)


def scatter_elements(
    x: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, reduction: str = "none"
) -> Tensor:
    if reduction != "none":
        raise ValueError("scattering with a reduction has no torch form")
    return x.scatter(axis, indices, updates)


def einsum(*parts: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation, *parts)


def col2im(x: Tensor, size: Sizes, block: Sizes, **settings: Any) -> Tensor:
    rank = len(size)
    pads = settings.get("pads") or [0] * (2 * rank)
    if pads[:rank] != pads[rank:]:
        raise ValueError("folding with asymmetric padding has no torch form")
    return F.fold(
        x,
        tuple(size),
        tuple(block),
        dilation=tuple(settings.get("dilations") or [1] * rank),
        padding=tuple(pads[:rank]),
        stride=tuple(settings.get("strides") or [1] * rank),
    )


def grid_sample(
    x: Tensor,
    places: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: int = 0,
) -> Tensor:
    torch_mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return F.grid_sample(x, places, torch_mode, padding_mode, bool(align_corners))


def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return F.celu(x, alpha)


def add_all(*parts: Tensor) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _operator(function: Callable[..., Any], *settings: int) -> Operator:
    return Operator(function=function, settings=frozenset(settings))


OPERATORS: dict[str, Operator] = {
    **{name: _operator(function) for name, function in POINTWISE.items()},
    "ArgMax": _operator(reductions.arg_max),
    "ArgMin": _operator(reductions.arg_min),
    "AveragePool": _operator(layers.average_pool),
    "BatchNormalization": _operator(layers.batch_norm),
    "Cast": _operator(cast),
    "CastLike": _operator(identity),
    "Celu": _operator(celu),
    "Clip": _operator(clip, 1, 2),
    "Col2Im": _operator(col2im, 1, 2),
    "Concat": _operator(concat),
    "Conv": _operator(layers.conv),
    "ConvTranspose": _operator(layers.conv_transpose),
    "CumSum": _operator(reductions.cumulative_sum, 1),
    "DepthToSpace": _operator(depth_to_space),
    "Dropout": _operator(identity),
    "Einsum": _operator(einsum),
    "Elu": _operator(elu),
    "Expand": _operator(expand, 1),
    "Flatten": _operator(flatten),
    "Gather": _operator(gather),
    "GatherElements": _operator(gather_elements),
    "Gelu": _operator(gelu),
    "Gemm": _operator(layers.gemm),
    "GlobalAveragePool": _operator(layers.global_average),
    "GlobalMaxPool": _operator(layers.global_max),
    "GridSample": _operator(grid_sample),
    "HardSigmoid": _operator(hard_sigmoid),
    "Identity": _operator(identity),
    "InstanceNormalization": _operator(layers.instance_norm),
    "LayerNormalization": _operator(layers.layer_norm),
    "LeakyRelu": _operator(leaky_relu),
    "LogSoftmax": _operator(log_softmax),
    "MaxPool": _operator(layers.max_pool),
    "PRelu": _operator(prelu),
    "Pad": _operator(pad, 1, 2, 3),
    "ReduceL1": _operator(reductions.reduce_l1, 1),
    "ReduceL2": _operator(reductions.reduce_l2, 1),
    "ReduceLogSumExp": _operator(reductions.reduce_log_sum_exp, 1),
    "ReduceMax": _operator(reductions.reduce_max, 1),
    "ReduceMean": _operator(reductions.reduce_mean, 1),
    "ReduceMin": _operator(reductions.reduce_min, 1),
    "ReduceSum": _operator(reductions.reduce_sum, 1),
    "ReduceSumSquare": _operator(reductions.reduce_sum_square, 1),
    "Reshape": _operator(reshape, 1),
    "Resize": _operator(layers.resize, 1, 2, 3),
    "ScatterElements": _operator(scatter_elements),
    "Shape": _operator(shape),
    "Slice": _operator(slice_, 1, 2, 3, 4),
    "Softmax": _operator(softmax),
    "Split": _operator(split, 1),
    "Squeeze": _operator(squeeze, 1),
    "Sum": _operator(add_all),
    "Tile": _operator(tile, 1),
    "TopK": _operator(reductions.top_k, 1),
    "Transpose": _operator(transpose),
    "Unsqueeze": _operator(unsqueeze, 1),
}
