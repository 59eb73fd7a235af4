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


def reduce_l2(
    x: Tensor, axes: Sizes | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, dim=_axes(x, axes), keepdim=bool(keepdims))
    return norm


def _axes(x: Tensor, axes: Sizes | None) -> tuple[int, ...]:
    return tuple(range(x.dim())) if axes is None else tuple(axes)
