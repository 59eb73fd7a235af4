"""Blocks of whole channels: the projection of a network onto a latency budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Floats, Ints
from latency_service.spaces.plan import expand
from pruning_client.graph.modules import NORMS, PRODUCERS
from pruning_client.graph.space import Traced
from pruning_client.methods.base import Context, Selection
from pruning_client.methods.gates import masks
from pruning_client.methods.magnitude import allocate
from pruning_client.methods.names import AllocatorName

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, kw_only=True)
class ChannelPart:
    """A parameter of which each channel of a group has a part."""

    module: nn.Module
    #: Name of the parameter in the module.
    name: str
    #: Width group of each filter or position [P], or -1.
    group: Ints
    #: Channel of each filter or position in its group [P].
    channel: Ints

    @property
    def parameter(self) -> nn.Parameter:
        found = getattr(self.module, self.name)
        assert isinstance(found, nn.Parameter)
        return found

    @property
    def is_filters(self) -> bool:
        """Whether the parts are filters, whose squares count in the scores."""
        return self.parameter.dim() > 1

    def along(self, values: Tensor) -> Tensor:
        """A value for each filter or position [P], in a shape that multiplies the parameter."""
        module = self.module
        rest = [1] * (self.parameter.dim() - 1)
        if not self.is_filters or not isinstance(module, _TRANSPOSED):
            return values.view(-1, *rest)
        inputs, per_group = self.parameter.shape[:2]
        of_group = values.view(module.groups, 1, per_group)
        rows = of_group.expand(-1, inputs // module.groups, -1).reshape(inputs, per_group)
        return rows.view(inputs, per_group, *rest[1:])

    def energies(self, value: Tensor) -> Tensor:
        """Sum of squares of each filter [P] of values of the parameter."""
        squares = value.square()
        if not isinstance(self.module, _TRANSPOSED):
            return squares.flatten(1).sum(1)
        inputs, per_group = value.shape[:2]
        groups = self.module.groups
        by_group = squares.reshape(groups, inputs // groups, per_group, -1)
        return by_group.sum((1, 3)).flatten()


def channel_parts(model: nn.Module, traced: Traced) -> list[ChannelPart]:
    """Filters of every producer of a channel, their biases, and scales and shifts of its norms.

    Scales and shifts belong to the block [ours]: behind a norm the size of a filter changes
    nothing, so that a filter that ADMM made small would still be missed when it is removed.
    """
    filters = _filters(model, traced)
    return filters + _vectors(model, traced)


def _filters(model: nn.Module, traced: Traced) -> list[ChannelPart]:
    """One part for each layer, whose filters may belong to several groups."""
    found: dict[str, ChannelPart] = {}
    for producer in traced.producers:
        module = model.get_submodule(producer.module)
        if not isinstance(module._parameters.get("weight"), nn.Parameter):
            continue
        count = _filters_of(module)
        part = found.setdefault(
            producer.module,
            ChannelPart(
                module=module,
                name="weight",
                group=np.full(count, -1, np.int64),
                channel=np.zeros(count, np.int64),
            ),
        )
        part.group[producer.filters] = producer.group
        part.channel[producer.filters] = producer.channels
    return list(found.values())


def _filters_of(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.out_features
    count = module.out_channels
    assert isinstance(count, int)
    return count


def _vectors(model: nn.Module, traced: Traced) -> list[ChannelPart]:
    modules = dict(model.named_modules())
    found: dict[str, ChannelPart] = {}
    for entry in traced.space.manifest.slices:
        owner, _, name = entry.initializer.rpartition(".")
        module = modules.get(owner)
        if module is None or not isinstance(module, (*NORMS, *PRODUCERS)):
            continue
        parameter = module._parameters.get(name)
        if parameter is None or parameter.dim() != 1:
            continue
        group, channel = expand(entry.segments)
        found[entry.initializer] = ChannelPart(
            module=module, name=name, group=group, channel=channel
        )
    return list(found.values())


class ChannelProjection:
    """The nearest network within the latency budget: channels of the least energy are zero.

    A channel's energy is the sum of the squares of its filters, over all members of its group:
    the loss of unifying these blocks to zero ([rec]). An allocator decides under the predictor how
    many channels each group loses. Blocks that stay are left as they are [ours]: one absolute value
    for a whole filter would cost accuracy and save no latency.
    """

    def __init__(self, context: Context, parts: Sequence[ChannelPart], allocator: AllocatorName):
        self._context = context
        self._parts = parts
        self._allocator = allocator

    def __call__(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The values of the parts' parameters with the channels that are removed at zero."""
        sizes = [group.width for group in self._context.traced.space.groups]
        kept = masks(self.select(values).keep, sizes, self._context.model)
        return [
            value * part.along(_of_positions(part, kept).to(value))
            for part, value in zip(self._parts, values, strict=True)
        ]

    def select(self, values: Sequence[Tensor]) -> Selection:
        """Channels that stay, by the energies of values of the parts' parameters."""
        return allocate(self._context, self._energies(values), self._allocator)

    def _energies(self, values: Sequence[Tensor]) -> list[Floats]:
        totals = [np.zeros(group.width) for group in self._context.traced.space.groups]
        for part, value in zip(self._parts, values, strict=True):
            if not part.is_filters:
                continue
            energies = part.energies(value).double().cpu().numpy()
            for group in np.unique(part.group[part.group >= 0]):
                mine = part.group == group
                np.add.at(totals[group], part.channel[mine], energies[mine])
        return totals


def _of_positions(part: ChannelPart, kept: Sequence[Tensor]) -> Tensor:
    """Mask [P] of the positions of a part whose channels stay, of masks [G][C]."""
    found = torch.ones(len(part.group), device=kept[0].device)
    for group in np.unique(part.group[part.group >= 0]):
        mine = torch.from_numpy(np.flatnonzero(part.group == group)).to(found.device)
        channels = torch.from_numpy(part.channel[part.group == group]).to(found.device)
        found[mine] = kept[group][channels].float()
    return found
