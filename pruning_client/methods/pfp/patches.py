"""Convolutions and linear layers as matrices, and the patches that these multiply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Maximum number of values of patches that are computed at once; they fit into a processor's cache.
_AT_ONCE = 1 << 18

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Patches of a batch, as a view without copies."""

    #: Windows [B, C, *positions, *kernel].
    windows: Tensor
    #: Number of axes of `positions`.
    axes: int
    #: Number of groups of the convolution.
    groups: int

    @property
    def count(self) -> int:
        """Number of patches of one sample."""
        return self.windows.shape[2 : 2 + self.axes].numel()

    def chunks(self) -> Iterator[Tensor]:
        """Patches [groups, channels of a group, taps, P] of some samples and positions at a time.

        A chunk has at most `_AT_ONCE` values, unless one row of positions has more.
        """
        samples, rows = self.windows.shape[0], self.windows.shape[2]
        row = max(1, self.windows[:1, :, :1].numel())
        rows_at_once = min(rows, max(1, _AT_ONCE // row))
        samples_at_once = max(1, _AT_ONCE // (row * rows))
        for sample in range(0, samples, samples_at_once):
            for at in range(0, rows, rows_at_once):
                part = self.windows[sample : sample + samples_at_once]
                yield self._matrix(part[:, :, at : at + rows_at_once])

    def _matrix(self, part: Tensor) -> Tensor:
        kernel = range(2 + self.axes, part.dim())
        positions = range(2, 2 + self.axes)
        ordered = part.permute(1, *kernel, 0, *positions)
        taps = part.shape[2 + self.axes :].numel()
        return ordered.reshape(self.groups, len(ordered) // self.groups, taps, -1)


def weight_matrix(module: nn.Module) -> Tensor:
    """Weights of a layer [groups, filters of a group, channels of a group, taps] in float32."""
    weight = cast(Tensor, module.weight).detach().float()
    if isinstance(module, nn.Linear):
        return weight[None, :, :, None]
    layer = cast("Convolution | Transposed", module)
    by_group = weight.reshape(layer.groups, -1, weight.shape[1], weight.shape[2:].numel())
    if layer.transposed:
        return by_group.transpose(1, 2).flip(-1)
    return by_group


def patches(module: nn.Module, inputs: Tensor) -> Patches:
    """Patches of a layer's inputs [B, ...], such that weights times patches is the output without
    its bias.
    """
    values = inputs.detach().float()
    if isinstance(module, nn.Linear):
        rows = values.reshape(len(values), -1, values.shape[-1]).transpose(1, 2)
        return Patches(windows=rows, axes=1, groups=1)
    layer = cast("Convolution | Transposed", module)
    if layer.transposed:
        values = _spread(cast(Transposed, layer), values)
        stride: tuple[int, ...] = (1,) * len(layer.stride)
    else:
        values = _padded(cast(Convolution, layer), values)
        stride = layer.stride
    windows = _windows(values, layer.kernel_size, stride, layer.dilation)
    return Patches(windows=windows, axes=len(stride), groups=layer.groups)


def _padded(layer: Convolution, values: Tensor) -> Tensor:
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(values, layer._reversed_padding_repeated_twice, mode=mode)


def _spread(layer: Transposed, values: Tensor) -> Tensor:
    """Inputs of the ordinary convolution that equals a transposed one: zeros between the values,
    and padding around them.
    """
    sizes = [(n - 1) * step + 1 for n, step in zip(values.shape[2:], layer.stride, strict=True)]
    spread = values.new_zeros(*values.shape[:2], *sizes)
    places: tuple[slice, ...] = tuple(slice(None, None, step) for step in layer.stride)
    spread[(slice(None), slice(None), *places)] = values
    padding: list[int] = []
    for axis in reversed(range(len(sizes))):
        around = layer.dilation[axis] * (layer.kernel_size[axis] - 1) - int(layer.padding[axis])
        padding += [around, around + layer.output_padding[axis]]
    return F.pad(spread, padding)


def _windows(
    values: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> Tensor:
    """Windows [B, C, *positions, *kernel] of values [B, C, *sizes]."""
    for axis, (taps, step, spacing) in enumerate(zip(kernel, stride, dilation, strict=True)):
        reach = spacing * (taps - 1) + 1
        values = values.unfold(2 + axis, reach, step)[..., ::spacing]
    return values


def by_sign(inputs: Tensor) -> list[Tensor]:
    """Inputs as non-negative tensors: themselves, or their positive and negative parts."""
    if bool((inputs >= 0).all()):
        return [inputs]
    return [inputs.clamp_min(0), (-inputs).clamp_min(0)]


def signed_weights(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Positive and negative part of `weight_matrix`, both non-negative."""
    weights = weight_matrix(module)
    return weights.clamp_min(0), (-weights).clamp_min(0)


def pre_activations(weights: Tensor, chunk: Tensor) -> Tensor:
    """Products [groups, filters, P] of weights [groups, filters, channels, taps] and patches
    [groups, channels, taps, P].
    """
    return torch.bmm(weights.flatten(2), chunk.flatten(1, 2))
