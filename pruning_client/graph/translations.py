"""Torch operators whose translation by torch's exporter hides which channels go where.

Writes to a part of a tensor (``y[:, :12] += x``) are exported as scattering by computed positions;
here they are concatenations of the parts that stay with the part that is written. Rolled axes are
cut by computed sizes there, and at constant positions here. Views by strides that only state a
layout of memory are nothing. Instance norms with running statistics are exported
as batch norms over a batch of one, with tiled weights; here they are batch norms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir
import torch
from onnxscript import opset18
from onnxscript.function_libs.torch_lib.ops import core

#: The exporter's operators, which take and return values of its graph.
op: Any = opset18
_INT32, _INT64 = onnx_ir.DataType.INT32, onnx_ir.DataType.INT64
_END = torch.iinfo(torch.int64).max


def slice_scatter(
    self: Any,
    src: Any,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Any:
    """`self` with the positions from `start` to `end` of an axis replaced by `src`."""
    size = _size(self, dim)
    first = _bound(0 if start is None else start, size)
    last = _bound(_END if end is None else end, size)
    if first is None or last is None or (step != 1 and size is None):
        return core.aten_slice_scatter(self, src, dim, start, end, step)
    if step == 1:
        return _between(self, src, dim, first, last)
    # each position from `self`, or from `src` behind it
    source = list(range(size or 0))
    for index, position in enumerate(range(first, last, step)):
        source[position] = len(source) + index
    both = op.Concat(self, src, axis=dim)
    return op.Gather(both, op.Constant(value_ints=source), axis=dim)


def select_scatter(self: Any, src: Any, dim: int, index: int) -> Any:
    """`self` with one position of an axis replaced by `src`, which lacks the axis."""
    first = _bound(index, _size(self, dim))
    if first is None:
        return core.aten_select_scatter(self, src, dim, index)
    row = op.Unsqueeze(src, op.Constant(value_ints=[dim]))
    return _between(self, row, dim, first, first + 1)


def roll(self: Any, shifts: Sequence[int], dims: Sequence[int] = ()) -> Any:
    """`self` with the positions of some axes moved, and those at the end back to the front."""
    sizes = [_size(self, axis) for axis in dims]
    if not dims or any(not size for size in sizes):
        return core.aten_roll(self, shifts, dims)
    rolled = self
    for axis, size, shift in zip(dims, sizes, shifts, strict=True):
        moved = shift % (size or 1)
        if moved:
            end = _cut(rolled, axis, -moved, _END)
            rolled = op.Concat(end, _cut(rolled, axis, 0, -moved), axis=axis)
    return op.Identity(self) if rolled is self else rolled


def instance_norm(
    self: Any,
    weight: Any = None,
    bias: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> Any:
    """An instance norm; with running statistics it computes what a batch norm does."""
    if use_input_stats or running_mean is None or running_var is None:
        return core.aten_instance_norm(
            self, weight, bias, running_mean, running_var, use_input_stats, momentum, eps
        )
    size = op.Shape(running_mean)
    scale = op.Expand(op.Constant(value_float=1.0), size) if weight is None else weight
    shift = op.Expand(op.Constant(value_float=0.0), size) if bias is None else bias
    return op.BatchNormalization(self, scale, shift, running_mean, running_var, epsilon=eps)


def split(self: Any, split_size: Any, dim: int = 0) -> Any:
    """Parts of a size; where that is computed, the exporter's folding fails on its known shape."""
    if not isinstance(split_size, int):
        split_size = op.Squeeze(op.Reshape(split_size, op.Constant(value_ints=[-1])))
    return core.aten_split(self, split_size, dim)


def max_unpool2d(self: Any, indices: Any, output_size: Sequence[int]) -> Any:
    """Values [B, C, H, W] at their positions among the pixels of each channel, else zeros."""
    height, width = output_size
    flat = op.Constant(value_ints=[0, 0, -1])
    sizes = op.Concat(op.Shape(self, end=2), op.Constant(value_ints=[height * width]), axis=0)
    pixels = op.ScatterElements(
        op.Expand(op.Constant(value_float=0.0), sizes),
        op.Reshape(indices, flat),
        op.Reshape(self, flat),
        axis=2,
    )
    return op.Reshape(pixels, op.Constant(value_ints=[0, 0, height, width]))


def amax(self: Any, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
    """Largest values along some axes, or the largest of all."""
    if dim:
        return core.aten_amax(self, op.Constant(value_ints=list(dim)), keepdim)
    return op.ReduceMax(self, keepdims=keepdim)


def amin(self: Any, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
    """Smallest values along some axes, or the smallest of all."""
    if dim:
        return core.aten_amin(self, op.Constant(value_ints=list(dim)), keepdim)
    return op.ReduceMin(self, keepdims=keepdim)


def index(self: Any, indices: Sequence[Any]) -> Any:
    """Elements by lists of positions; those along one axis are gathered."""
    given = [axis for axis, positions in enumerate(indices) if positions is not None]
    if len(given) != 1 or indices[given[0]].dtype not in (_INT64, _INT32):
        return core.aten_index(self, indices)
    return op.Gather(self, indices[given[0]], axis=given[0])


def as_strided(
    self: Any, size: Sequence[Any], stride: Sequence[Any], storage_offset: int | None = None
) -> Any:
    """A view by strides; `self` where they only state its layout, as behind pooling to one pixel
    of a tensor whose channels are last.
    """
    if storage_offset in (None, 0) and _states_layout(self, size, stride):
        return op.Identity(self)
    return core.aten_as_strided(self, size, stride, storage_offset or 0)


def _states_layout(x: onnx_ir.Value, size: Sequence[Any], stride: Sequence[Any]) -> bool:
    """Whether a view has the shape of `x` and its elements in the same order."""
    shape = [] if x.shape is None else list(x.shape)
    if len(size) != len(shape):
        return False
    expected = 1
    for axis in reversed(range(len(shape))):
        held = shape[axis]
        if not isinstance(held, int):
            # the batch's size is the same wherever only one axis has it
            return axis == 0 and stride[0] == expected
        if size[axis] != held or (held > 1 and stride[axis] != expected):
            return False
        expected *= held
    return True


def _between(whole: Any, part: Any, axis: int, first: int, last: int) -> Any:
    size = _size(whole, axis)
    parts = [part]
    if first > 0:
        parts.insert(0, _cut(whole, axis, 0, first))
    if last < (_END if size is None else size):
        parts.append(_cut(whole, axis, last, _END))
    return op.Concat(*parts, axis=axis) if len(parts) > 1 else op.Identity(part)


def _cut(x: Any, axis: int, start: int, end: int) -> Any:
    bounds = [op.Constant(value_ints=[value]) for value in (start, end, axis)]
    return op.Slice(x, *bounds)


def _size(x: onnx_ir.Value, axis: int) -> int | None:
    """Size of an axis, or None if it is the batch's."""
    size = x.shape[axis] if x.shape is not None else None
    return size if isinstance(size, int) else None


def _bound(value: Any, size: int | None) -> int | None:
    """A bound counted from the front, or None if it is not known."""
    if not isinstance(value, int):
        return None
    if size is None:
        return value if value in (0, _END) else None
    return min(max(value + size if value < 0 else value, 0), size)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.slice_scatter.default: slice_scatter,
    torch.ops.aten.select_scatter.default: select_scatter,
    torch.ops.aten.split.Tensor: split,
    torch.ops.aten.as_strided.default: as_strided,
    torch.ops.aten.instance_norm.default: instance_norm,
    torch.ops.aten.amax.default: amax,
    torch.ops.aten.amin.default: amin,
    torch.ops.aten.index.Tensor: index,
    torch.ops.aten.max_unpool2d.default: max_unpool2d,
    torch.ops.aten.roll.default: roll,
}
