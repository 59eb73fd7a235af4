"""torch-pruning's groups made from width groups.

Its own dependency graph finds the same ones where it works; behind the padding shortcuts of a CIFAR
ResNet its groups have channels that do not exist (docs/design.md, fact 7).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn
from torch_pruning import ops
from torch_pruning.dependency import Dependency, Group, Node
from torch_pruning.pruner.function import PrunerBox

from latency_service.core.arrays import Ints
from latency_service.spaces.plan import expand
from pruning_client.errors import UsageError
from pruning_client.graph.modules import NORMS
from pruning_client.graph.space import Producer, Traced


def groups_of(model: nn.Module, traced: Traced) -> list[Any]:
    """A torch-pruning `Group` for each width group [G], like those of its own graph.

    Raises:
        UsageError: No layer makes every channel of a group once, and torch-pruning counts the
            channels in the first layer of a group.
    """
    return [
        _group(model, _items(model, traced, index)) for index in range(len(traced.space.groups))
    ]


@dataclass(frozen=True, kw_only=True)
class _Item:
    """Channels of a width group in one layer."""

    module: str
    #: Whether they are the layer's outputs, or its inputs.
    is_output: bool
    #: Positions on that axis of the layer, ascending [P]: torch-pruning sorts some of these lists
    #: without the channels beside them.
    positions: Ints
    #: Channel of the group that each position belongs to [P].
    channels: Ints


def _items(model: nn.Module, traced: Traced, index: int) -> list[_Item]:
    """Layers that produce the channels of a group, one first that makes each of them once; norms on
    them; layers that read them.
    """
    group = traced.space.groups[index]
    producers = [producer for producer in traced.producers if producer.group == index]
    roots = [one for one in producers if _makes_each_once(one, group.width)]
    if not roots:
        raise UsageError(
            f"No layer makes every channel of {group.name!r} once, as torch-pruning's importances "
            "need it.",
            "Leave torch-pruning's methods out for this network.",
        )
    outputs = [
        _Item(module=one.module, is_output=True, positions=one.filters, channels=one.channels)
        for one in [roots[0], *(one for one in producers if one is not roots[0])]
    ]
    norms = [
        _part(name, groups, channels, index, is_output=True)
        for name, groups, channels in _norms(model, traced)
    ]
    inputs = [
        _part(reader.module, reader.group, reader.channel, index, is_output=False)
        for reader in traced.readers
        # a depthwise layer is one item, as in torch-pruning's own groups
        if not reader.depthwise
    ]
    return [item for item in [*outputs, *norms, *inputs] if len(item.positions)]


def _makes_each_once(producer: Producer, width: int) -> bool:
    is_each = np.array_equal(np.sort(producer.channels), np.arange(width))
    # torch-pruning's importances pass over depthwise layers
    return is_each and not producer.depthwise


def _norms(model: nn.Module, traced: Traced) -> Iterator[tuple[str, Ints, Ints]]:
    """Name of each norm, and group [P] and channel [P] of each of its positions."""
    modules = dict(model.named_modules())
    for entry in traced.space.manifest.slices:
        owner, _, name = entry.initializer.rpartition(".")
        if name == "weight" and isinstance(modules.get(owner), NORMS):
            yield owner, *expand(entry.segments)


def _part(name: str, groups: Ints, channels: Ints, index: int, *, is_output: bool) -> _Item:
    """The item of one group, of a layer's positions with their groups [P] and channels [P]."""
    positions = np.flatnonzero(groups == index)
    return _Item(
        module=name, is_output=is_output, positions=positions, channels=channels[positions]
    )


def _group(model: nn.Module, items: Sequence[_Item]) -> Any:
    group = Group()
    for item in items:
        module = model.get_submodule(item.module)
        node = Node(module, None, item.module)
        pruner = PrunerBox[ops.module2type(module)]
        function = pruner.prune_out_channels if item.is_output else pruner.prune_in_channels
        group.add_dep(Dependency(function, function, node, node), item.positions.tolist())
        group[-1].root_idxs = item.channels.tolist()
    return group
