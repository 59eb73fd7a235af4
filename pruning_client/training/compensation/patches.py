"""Convolutions and linear layers as linear functions of patches of their inputs."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.graph.modules import CONVOLUTIONS

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class PatchLayer:
    """The part of a layer that reads and produces channels that are kept.

    An output of the layer at one position is ``W x + b`` for the patch x of the input under its
    kernel. Convolutions of any dimension, grouped and transposed ones and linear layers differ only
    in how patches are gathered and in how W is stored.

    G is the number of the layer's kept groups (1 for an ungrouped layer), K the number of a group's
    kept inputs times the taps of the kernel, O the number of its kept outputs.

    Args:
        module: Convolution or linear layer.
        inputs: Mask of the input channels to keep [C_in].
        outputs: Mask of the output channels to keep [C_out]. Of a grouped layer only groups that
            are kept whole are taken.
    """

    def __init__(self, module: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
        self._module = module
        groups = int(getattr(module, "groups", 1))
        if groups == 1:
            self._inputs = inputs.nonzero().view(1, -1)
            self._outputs = outputs.nonzero().view(1, -1)
        else:
            whole = inputs.view(groups, -1).all(1) & outputs.view(groups, -1).all(1)
            self._inputs = torch.arange(len(inputs)).view(groups, -1)[whole]
            self._outputs = torch.arange(len(outputs)).view(groups, -1)[whole]
        device = self._weight.device
        #: Input channels of each kept group as columns of the weight [G, I].
        self._columns = (self._inputs % (len(inputs) // groups)).to(device)
        self._inputs = self._inputs.to(device)
        self._outputs = self._outputs.to(device)

    @classmethod
    def whole(cls, module: nn.Module) -> Self:
        """A layer of which everything is kept."""
        inputs, outputs = channel_counts(module)
        every = partial(torch.ones, dtype=torch.bool)
        return cls(module, every(inputs), every(outputs))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept."""
        return not self._inputs.numel() or not self._outputs.numel()

    @property
    def unknowns(self) -> int:
        """Number K of weights of a kept output."""
        return self._inputs.shape[1] * self._rows().shape[2]

    @property
    def size(self) -> int:
        """Number of numbers in one patch of all groups."""
        return len(self._inputs) * self.unknowns

    def outputs(self, values: Tensor, places: Tensor) -> Tensor:
        """Kept channels [G, S, O] of an output, or of what has its shape, at some places.

        Args:
            places: Positions [N, P] for each of the N entries of the first axis, counted over the
                axes other than the first and that of the channels; S is N P.
        """
        channels = _gather(self._by_place(values), self._outputs.flatten(), places)
        return self._by_group(channels[..., None], len(self._outputs))

    def patches(self, inputs: Tensor, outputs: tuple[int, ...], places: Tensor) -> Tensor:
        """Patches [G, S, K] of an input under the kernel at some places of the output.

        Args:
            outputs: Shape of the output.
            places: As for `outputs`.
        """
        if not isinstance(self._module, CONVOLUTIONS):
            found = _gather(self._by_place(inputs), self._inputs.flatten(), places)[..., None]
        else:
            found = self._taps(inputs, outputs[2:], places)
        return self._by_group(found, len(self._inputs))

    def of_channels(self, values: Tensor) -> Tensor:
        """Values [C_out] of all output channels for the kept ones [G, O]."""
        return values[self._outputs]

    def all_channels(self, values: Tensor, channels: int) -> Tensor:
        """Values [G, O] of the kept output channels for all of them [C_out], others zero."""
        return values.new_zeros(channels).index_put_((self._outputs,), values)

    def replaced(self, values: Tensor, kept: Tensor) -> Tensor:
        """Values [C_out] of all output channels, with those [G, O] of the kept ones replaced."""
        return values.index_put((self._outputs,), kept.to(values))

    def matrix(self) -> Tensor:
        """Weights [G, K, O] of the kept part."""
        picked = self._rows()[self._outputs[:, :, None], self._columns[:, None, :]]
        return picked.flatten(2).transpose(1, 2)

    def constants(self) -> Tensor:
        """Constants of the kept outputs [G, O], zero without a bias."""
        bias = getattr(self._module, "bias", None)
        if not isinstance(bias, Tensor):
            return self._weight.new_zeros(self._outputs.shape)
        return bias.detach()[self._outputs]

    def add(self, change: Tensor) -> None:
        """Add to the weights of the kept part, in place.

        Args:
            change: As `matrix` [G, K, O].
        """
        rows = torch.zeros_like(self._rows())
        groups, wide, high = len(self._outputs), self._outputs.shape[1], self._columns.shape[1]
        parts = change.to(rows).transpose(1, 2).reshape(groups, wide, high, rows.shape[2])
        rows[self._outputs[:, :, None], self._columns[:, None, :]] = parts
        self._weight.add_(self._stored(rows))

    @property
    def _weight(self) -> Tensor:
        weight = self._module.weight
        assert isinstance(weight, Tensor)
        return weight

    def _rows(self) -> Tensor:
        """All weights as outputs, inputs of one group and taps [C_out, C_in / groups, T]."""
        weight = self._weight.detach()
        if not isinstance(self._module, _TRANSPOSED):
            return weight.flatten(2) if weight.dim() > 2 else weight[..., None]
        groups = int(self._module.groups)
        split = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
        return split.transpose(1, 2).flatten(0, 1)

    def _stored(self, rows: Tensor) -> Tensor:
        """Weights [C_out, C_in / groups, T] in the shape in which the module stores them."""
        if isinstance(self._module, _TRANSPOSED):
            split = rows.view(int(self._module.groups), -1, *rows.shape[1:])
            rows = split.transpose(1, 2)
        return rows.reshape(self._weight.shape)

    def _by_place(self, values: Tensor) -> Tensor:
        """An input or output as entries, channels and places [N, C, L]."""
        if isinstance(self._module, CONVOLUTIONS):
            return values.flatten(2)
        flat = values.reshape(len(values), -1, values.shape[-1])
        return flat.transpose(1, 2)

    def _taps(self, inputs: Tensor, spatial: tuple[int, ...], places: Tensor) -> Tensor:
        """Values [N, P, C, T] of the kept inputs under every tap of the kernel."""
        at = torch.stack(torch.unravel_index(places, spatial), dim=-1)
        if isinstance(self._module, _TRANSPOSED):
            index, inside = self._transposed_index(at, inputs.shape[2:])
            source = inputs
        else:
            source = self._padded(inputs)
            index, inside = self._index(at, source.shape[2:]), None
        found = _gather(source.flatten(2), self._inputs.flatten(), index.flatten(1))
        found = found.view(*index.shape, -1).transpose(2, 3)
        return found if inside is None else found * inside[:, :, None, :]

    def _padded(self, inputs: Tensor) -> Tensor:
        mode = self._module.padding_mode
        pads = self._module._reversed_padding_repeated_twice
        return F.pad(inputs, pads, mode="constant" if mode == "zeros" else mode)  # type: ignore[arg-type]

    def _index(self, at: Tensor, sizes: tuple[int, ...]) -> Tensor:
        """Place [N, P, T] in the padded input of every tap, for outputs at `at` [N, P, D]."""
        starts = at * self._setting("stride", at)
        return _ravelled(starts[:, :, None] + self._offsets(at), sizes)

    def _transposed_index(self, at: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Place [N, P, T] in the input that each tap spreads to the outputs at `at` [N, P, D], and
        whether there is one.
        """
        stride = self._setting("stride", at)
        steps = (at + self._setting("padding", at))[:, :, None] - self._offsets(at)
        where = torch.div(steps, stride, rounding_mode="floor")
        limits = torch.tensor(sizes, device=at.device)
        inside = ((steps % stride == 0) & (where >= 0) & (where < limits)).all(-1)
        return _ravelled(where.clamp_min(0).minimum(limits - 1), sizes), inside

    def _offsets(self, like: Tensor) -> Tensor:
        """Offset of each tap of the kernel from the first one [T, D]."""
        sizes = self._module.kernel_size
        assert isinstance(sizes, tuple)
        taps = list(itertools.product(*(range(size) for size in sizes)))
        return torch.tensor(taps, device=like.device) * self._setting("dilation", like)

    def _setting(self, name: str, like: Tensor) -> Tensor:
        """A setting of the convolution by dimension [D]."""
        return torch.tensor(getattr(self._module, name), device=like.device)

    @staticmethod
    def _by_group(values: Tensor, groups: int) -> Tensor:
        """Values [N, P, C, T] as [G, N P, C / G T]."""
        entries, places, channels, taps = values.shape
        shape = (entries * places, groups, channels // groups * taps)
        return values.reshape(shape).transpose(0, 1)


def channel_counts(module: nn.Module) -> tuple[int, int]:
    """Numbers of input and output channels of a layer."""
    kind = "channels" if isinstance(module, CONVOLUTIONS) else "features"
    return int(getattr(module, f"in_{kind}")), int(getattr(module, f"out_{kind}"))


def place_count(module: nn.Module, output: Tensor) -> int:
    """Number of positions in one entry of a layer's output."""
    sizes = output.shape[2:] if isinstance(module, CONVOLUTIONS) else output.shape[1:-1]
    return math.prod(sizes)


def _gather(values: Tensor, channels: Tensor, places: Tensor) -> Tensor:
    """Some channels [N, P, C] of values [N, all channels, L] at places [N, P]."""
    entries = torch.arange(len(values), device=values.device)[:, None]
    return values[entries, :, places].index_select(2, channels)


def _ravelled(at: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Flat index [...] of positions [..., D] in an array of these sizes."""
    strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    return (at * torch.tensor(strides, device=at.device)).sum(-1)
