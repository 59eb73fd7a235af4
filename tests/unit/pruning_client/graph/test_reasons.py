"""Reasons name the user's module first, and a cure that can work."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.graph.errors import ExportError
from pruning_client.graph.space import make_space
from tests.support.constructs import between, images


def reason(model: nn.Module, layer: str = "0") -> str:
    return make_space(model, images(), minimum=1).space.manifest.unprunable[layer]


class _OwnNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.square().mean(1, keepdim=True)


class _Tied(nn.Module):
    """A decoder with the weight of the encoder and a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(8, 8, 3, padding=1)
        self.bias = nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(self.encoder(x), self.encoder.weight, self.bias, padding=1)


class _Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.query = nn.Parameter(torch.randn(1, 4, 8))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        y: Tensor = self.attention(self.query.expand(len(x), -1, -1), tokens, tokens)[0]
        return y.transpose(1, 2).view(len(x), 8, 2, 2)


class _Gates(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x[:, :1].sigmoid()


class _ScaledFilters(nn.Conv2d):
    """Like the layers of normaliser-free networks: filters are normalised as a batch."""

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.reshape(1, 8, -1)
        rows = F.batch_norm(rows, None, None, training=True, momentum=0.0)
        return F.conv2d(x, rows.reshape_as(self.weight), self.bias, padding=1)


class _MixesWeights(nn.Module):
    """A convolution with other weights for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.randn(3, 8, 8, 3, 3))
        self.route = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        count, width, height, length = x.shape
        parts = torch.sigmoid(self.route(x.mean((2, 3))))
        weights = torch.einsum("bn,noihw->boihw", parts, self.experts).reshape(-1, width, 3, 3)
        y = F.conv2d(x.reshape(1, -1, height, length), weights, padding=1, groups=count)
        return y.view(count, 8, height, length)


class _ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, *, pixels: Tensor) -> Tensor:
        y: Tensor = self.layer(pixels)
        return y


def test_a_layer_whose_filters_are_not_followed_says_so() -> None:
    assert "cannot be followed" in reason(between(_ScaledFilters(8, 8, 3)), "1")


def test_groups_by_the_batch_are_named_with_their_module() -> None:
    with pytest.raises(ExportError) as raised:
        make_space(between(_MixesWeights()), images())
    assert "module '1' (_MixesWeights)" in str(raised.value)
    assert "groups depends on the size of the batch" in str(raised.value)
    assert "Mix the outputs" in str(raised.value)


def test_inputs_by_keyword_are_asked_for_by_position() -> None:
    with pytest.raises(ExportError, match=r"'pixels' by keyword only\. Let it take"):
        make_space(_ByKeyword(), images())


def test_the_module_is_named_before_the_operator() -> None:
    assert "module '1' (_OwnNorm), ReduceMean" in reason(between(_OwnNorm()))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (_Tied(), "module '1' (_Tied), ConvTranspose 'node_convolution' with '1.bias'"),
        (_Attends(), "module '1' (_Attends), Expand 'node_expand' with '1.query'"),
    ],
)
def test_what_makes_something_of_zeros_is_named(module: nn.Module, name: str) -> None:
    found = reason(between(module))
    assert name in found
    assert "Use it in a module of its own" in found


def test_attention_of_torch_is_no_module_to_call() -> None:
    found = reason(between(_Attends()), "1.attention.out_proj")
    assert "call the module" not in found
    assert "MultiheadAttention" in found


def test_one_channel_that_goes_its_own_way_says_so() -> None:
    found = reason(between(_Gates()))
    assert found == (
        "1 of 8 filters: no other channel goes the same way, and a width of one channel cannot "
        "become smaller"
    )
