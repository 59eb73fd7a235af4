"""Networks that draw random numbers or keep statistics while they train."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.errors import PruningWarning
from pruning_client.graph import proof
from pruning_client.graph.chance import WithoutDropout
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8)


class Part(nn.Module):
    """Does something in training mode only."""

    def __init__(self, does: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._does = does

    def forward(self, x: Tensor) -> Tensor:
        return self._does(x) if self.training else x


class Average(nn.Module):
    """Keeps a running average."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(()))
        self.average: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average.lerp_(x.detach().mean(), 0.1)
        return x


def drop_path(x: Tensor) -> Tensor:
    return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(0.5) / 0.5


def drop_path_of_timm(x: Tensor) -> Tensor:
    return x / 0.5 * (0.5 + torch.rand((len(x), 1, 1, 1), dtype=x.dtype)).floor_()


def noise(x: Tensor) -> Tensor:
    return x + 0.1 * torch.randn_like(x)


def skipped(x: Tensor) -> Tensor:
    return x if np.random.random() < 0.5 else x * 1.0


class Counts(nn.Module):
    """Channel counts in the forward pass, so that a smaller form is a graph."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.part = part
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Any:
        y = self.part(self.first(x).relu().view(-1, 8, 64).view(-1, 8, 8, 8))
        return self.last(y)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (nn.Dropout(0.5), r"the random numbers of module 'part' \(Dropout\) \(dropout\)"),
        (Part(drop_path), r"the random numbers of module 'part' \(Part\) \(bernoulli_\)"),
        (Part(noise), r"the random numbers of module 'part' \(Part\) \(randn_like\)"),
        (Part(skipped), "its random numbers"),
        (Part(lambda x: x + 1), "what else it computes in training mode"),
        (Part(lambda x: x.reshape(7)), "its training mode, which fails on the example"),
        (Average(), r"the updates of the buffer 'average' of module 'part' \(Average\)"),
    ],
)
def test_what_a_graph_does_not_train_is_said(part: nn.Module, told: str) -> None:
    model = Counts(part)
    traced = make_space(model, images())
    with pytest.warns(PruningWarning, match=f"without {told}"):
        small = slim(model, traced, proof.random_keep(traced.space))
    assert not isinstance(small, Counts)


@pytest.mark.parametrize("part", [nn.Dropout(0.0), nn.BatchNorm2d(8), nn.ReLU()])
def test_a_graph_that_trains_the_same_is_no_warning(part: nn.Module) -> None:
    model = Counts(part)
    traced = make_space(model, images())
    with warnings.catch_warnings():
        warnings.simplefilter("error", PruningWarning)
        small = slim(model, traced, proof.random_keep(traced.space))
    assert not isinstance(small, Counts)


class Auxiliary(nn.Module):
    """Another head and random numbers in training mode."""

    def __init__(self, does: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(8, 4, 1)
        self.auxiliary = nn.Conv2d(8, 4, 1)
        self._does = does

    def forward(self, x: Tensor) -> Any:
        y = self.first(x).relu()
        z = self.second(y).relu()
        z = y + self._does(z) if self.training else y + z
        return (self.head(z), self.auxiliary(y)) if self.training else self.head(z)


def gumbel(x: Tensor) -> Tensor:
    return x * F.gumbel_softmax(x.new_zeros(2), dim=0)[0]


def masked(x: Tensor) -> Tensor:
    return x * torch.bernoulli(torch.full_like(x, 0.5))


@pytest.mark.parametrize(
    "does",
    [drop_path, drop_path_of_timm, noise, gumbel, lambda x: F.dropout(x, 0.5), masked],
)
def test_heads_of_training_mode_become_smaller_beside_random_numbers(
    does: Callable[[Tensor], Tensor],
) -> None:
    model = Auxiliary(does)
    traced = make_space(model, images())
    assert [group.name for group in traced.space.groups] == ["first"]
    small = slim(model, traced, proof.random_keep(traced.space))
    assert isinstance(small, Auxiliary)
    assert [len(x) for x in small.train()(images())] == [2, 2]


def test_random_functions_keep_shapes_and_types() -> None:
    x = torch.rand(2, 3)
    calls: list[Callable[[], Tensor]] = [
        lambda: torch.rand(2, 3),
        lambda: torch.randn((2, 3), dtype=torch.float64),
        lambda: torch.rand(size=(2, 3), generator=torch.Generator()),
        lambda: torch.rand_like(x),
        lambda: torch.bernoulli(x, 0.5),
        lambda: torch.normal(x, 1.0),
        lambda: torch.normal(0.0, 1.0, (2, 3)),
        lambda: x.clone().uniform_(1, 2),
        lambda: x.clone().normal_(0.0, 2.0),
        lambda: x.clone().exponential_(),
        lambda: x.clone().bernoulli_(x),
        lambda: torch.randperm(3, generator=torch.Generator()),
    ]
    for call in calls:
        with WithoutDropout():
            first, second = call(), call()
        assert torch.equal(first, second)
        assert (first.shape, first.dtype) == (call().shape, call().dtype)


def test_a_network_that_is_random_in_eval_mode_is_told_so() -> None:
    class Random(Counts):
        def forward(self, x: Tensor) -> Any:
            return noise(super().forward(x))

    traced = make_space(Random(nn.ReLU()), images())
    assert not traced.space.groups
    assert "random in eval mode" in traced.space.manifest.unprunable["first"]
