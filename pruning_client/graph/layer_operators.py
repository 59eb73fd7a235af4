"""ONNX convolutions, norms, pooling and resizing as torch functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

Sizes = Sequence[int]


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
