"""Average pooling to a given size with windows of unequal sizes, as slices and their means.

torch's exporter gathers the pixels of all windows by computed positions, which takes longest of
all layers to export and to run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pruning_client.execution.interception import Interception

#: Number of pooled axes, which are the last ones.
_POOLED_AXES: dict[Callable[..., Any], int] = {
    F.adaptive_avg_pool1d: 1,
    F.adaptive_avg_pool2d: 2,
    F.adaptive_avg_pool3d: 3,
}
#: Maximum number of windows along an axis: each is a slice of its own.
_MOST_WINDOWS = 32


class PoolingBySlices(Interception):
    """Context in which adaptive average pooling takes slices where its windows are unequal."""

    def call(self, function: Callable[..., Any], args: Sequence[Any], given: dict[str, Any]) -> Any:
        if function in _POOLED_AXES:
            windows = _windows(_POOLED_AXES[function], *args, **given)
            if windows is not None:
                return _pooled(args[0] if args else given["input"], windows)
        return function(*args, **given)


def _windows(
    axes: int, input: Tensor, output_size: int | Sequence[int | None]
) -> dict[int, list[tuple[int, int]]] | None:
    """Start and end of each window, by axis; None where those of each axis are equal or many."""
    wanted = [output_size] * axes if isinstance(output_size, int) else list(output_size)
    found = {}
    for axis, count in zip(range(-axes, 0), wanted, strict=True):
        size: Any = input.shape[axis]
        if not isinstance(size, int):
            return None
        if count not in (None, size):
            found[axis] = [
                (at * size // count, -(-(at + 1) * size // count)) for at in range(count)
            ]
    is_uneven = any(input.shape[axis] % len(windows) for axis, windows in found.items())
    is_small = all(len(windows) <= _MOST_WINDOWS for windows in found.values())
    return found if is_uneven and is_small else None


def _pooled(x: Tensor, windows: dict[int, list[tuple[int, int]]]) -> Tensor:
    """The mean of a window is that along one axis of those along the other."""
    for axis, bounds in windows.items():
        slices = [torch.ops.aten.slice.Tensor(x, x.dim() + axis, *bound) for bound in bounds]
        x = torch.cat([part.mean(axis, keepdim=True) for part in slices], axis)
    return x
