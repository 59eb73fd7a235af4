"""Generators of weights from the scales of width groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_service.core.arrays import Ints
from latency_service.spaces.plan import expand
from pruning_client.errors import ModelError, UsageError
from pruning_client.graph.modules import PRODUCERS
from pruning_client.graph.traced import Traced

#: Tensors of the size of a generator in training: its parameters, their gradients and momentum.
_COPIES = 3
_BYTES_PER_GB = 2**30


@dataclass(frozen=True, kw_only=True)
class GeneratedWeight:
    """Weight of a convolution or linear layer that depends on the widths."""

    #: Name as in `named_parameters`.
    name: str
    #: Width groups that the axes of the weight follow, ascending.
    groups: tuple[int, ...]
    shape: torch.Size


class FullGenerator(nn.Module):
    """Linear-ReLU-Linear from scales [n] to a change of a weight, one row for each number of it.

    This is the PruningNet block of the published code, except that the second layer starts at zero
    and has the layer's own weight in place of its bias [ours]: at first every encoding has that
    weight.
    """

    def __init__(self, weight: GeneratedWeight, hidden: int, like: Tensor) -> None:
        super().__init__()
        self._shape = weight.shape
        self.hidden = nn.Linear(len(weight.groups), hidden).to(like)
        self.output = nn.Parameter(like.new_zeros(weight.shape.numel(), hidden))

    def forward(self, scales: Tensor) -> Tensor:
        return F.linear(self.hidden(scales).relu(), self.output).view(self._shape)


class LowRankGenerator(nn.Module):
    """Change of a weight as a product of two generated matrices [filters, rank] and
    [rank, weights of a filter] [ours].

    Its memory grows with the sum of the two sides of the weight instead of their product.
    """

    def __init__(self, weight: GeneratedWeight, hidden: int, rank: int, like: Tensor) -> None:
        super().__init__()
        self._shape = weight.shape
        self._rank = rank
        filters = weight.shape[0]
        columns = weight.shape.numel() // filters
        self.hidden = nn.Linear(len(weight.groups), hidden).to(like)
        self.left = nn.Linear(hidden, filters * rank, bias=False).to(like)
        self.right = nn.Parameter(like.new_zeros(rank * columns, hidden))

    def forward(self, scales: Tensor) -> Tensor:
        hidden = self.hidden(scales).relu()
        left = self.left(hidden).view(-1, self._rank)
        right = F.linear(hidden, self.right).view(self._rank, -1)
        change: Tensor = left @ right
        return change.view(self._shape)


def generated_weights(model: nn.Module, traced: Traced) -> list[GeneratedWeight]:
    """Trainable weights of convolutions and linear layers with an axis that follows a width group.

    Other parameters keep one value for all encodings: biases, norms, weights that are frozen or
    computed from other parameters, and parameters of the user's own modules.

    Raises:
        ModelError: There is no such weight.
    """
    groups: dict[str, set[int]] = {}
    for name, owner, follows in followed_axes(model, traced):
        parameter = model.get_parameter(name)
        is_layer = isinstance(owner, PRODUCERS) and owner.weight is parameter
        if is_layer and parameter.requires_grad:
            groups.setdefault(name, set()).update(follows[follows >= 0].tolist())
    if not groups:
        raise ModelError(
            f"No weight of {type(model).__name__} can be generated: no trainable weight of a "
            "convolution or linear layer has an axis that follows a width group.",
            "Unfreeze the layers, remove parametrisations such as weight norm, or choose another "
            "method.",
        )
    return [
        GeneratedWeight(
            name=name, groups=tuple(sorted(found)), shape=model.get_parameter(name).shape
        )
        for name, found in groups.items()
    ]


def followed_axes(model: nn.Module, traced: Traced) -> list[tuple[str, nn.Module, Ints]]:
    """Parameter, its module, and the width group [P] of each position of an axis, or -1, for every
    axis of a parameter that follows a width group; tied parameters have their first name.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    first_names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = []
    for entry in traced.space.manifest.slices:
        if entry.initializer not in parameters:
            continue
        owner = model.get_submodule(entry.initializer.rpartition(".")[0])
        name = first_names[id(parameters[entry.initializer])]
        follows, _ = expand(entry.segments)
        if (follows >= 0).any():
            found.append((name, owner, follows))
    return found


def make_generators(
    weights: Sequence[GeneratedWeight], hidden: int, rank: int | None, like: Tensor
) -> list[nn.Module]:
    """A generator for each weight: a full one, or one of low rank.

    Args:
        like: Tensor of the device and dtype of the generators.
    """
    if rank is None:
        return [FullGenerator(weight, hidden, like) for weight in weights]
    return [LowRankGenerator(weight, hidden, rank, like) for weight in weights]


def check_memory(
    weights: Sequence[GeneratedWeight], hidden: int, rank: int | None, limit_gb: float, like: Tensor
) -> None:
    """Check that the generators can be trained in `limit_gb` of memory.

    Raises:
        UsageError: They cannot; the message says how much they need.
    """
    numbers = sum(_numbers(weight, hidden, rank) for weight in weights)
    needed_gb = _COPIES * like.element_size() * numbers / _BYTES_PER_GB
    if needed_gb <= limit_gb:
        return
    generated = sum(weight.shape.numel() for weight in weights)
    raise UsageError(
        f"Generators of {generated / 1e6:.3g} million weights need {needed_gb:.3g} GB: {numbers:,} "
        f"parameters, their gradients and momentum. The limit is {limit_gb:.3g} GB.",
        "Generate changes of low rank (`MetaPruning(rank=8)`), or raise `memory_gb`.",
    )


def _numbers(weight: GeneratedWeight, hidden: int, rank: int | None) -> int:
    """Number of parameters of a generator, without its small first layer."""
    whole = weight.shape.numel()
    if rank is None:
        return hidden * whole
    filters = weight.shape[0]
    return hidden * rank * (filters + whole // filters)
