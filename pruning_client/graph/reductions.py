"""ONNX operators over whole axes as torch functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Sizes = Sequence[int]


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


def reduce_l1(
    x: Tensor, axes: Sizes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return x.abs().sum(dim=_axes(x, axes), keepdim=bool(keepdims))


def reduce_sum_square(
    x: Tensor, axes: Sizes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return x.square().sum(dim=_axes(x, axes), keepdim=bool(keepdims))


def reduce_log_sum_exp(
    x: Tensor, axes: Sizes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return x.logsumexp(dim=_axes(x, axes), keepdim=bool(keepdims))


def reduce_l2(
    x: Tensor, axes: Sizes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=_axes(x, axes), keepdim=bool(keepdims))
    return norm


def arg_max(x: Tensor, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return x.argmax(dim=axis, keepdim=bool(keepdims))


def arg_min(x: Tensor, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return x.argmin(dim=axis, keepdim=bool(keepdims))


def cumulative_sum(x: Tensor, axis: int | Sizes, exclusive: int = 0, reverse: int = 0) -> Tensor:
    if exclusive or reverse:
        raise ValueError("such a cumulative sum has no torch form")
    return x.cumsum(axis if isinstance(axis, int) else axis[0])


def top_k(
    x: Tensor, k: Sizes, axis: int = -1, largest: int = 1, sorted: int = 1
) -> Sequence[Tensor]:
    return x.topk(k[0], axis, bool(largest), bool(sorted))


def _axes(x: Tensor, axes: Sizes | None) -> tuple[int, ...]:
    return tuple(range(x.dim())) if axes is None else tuple(axes)
