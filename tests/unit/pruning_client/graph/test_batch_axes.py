"""Networks whose batch is elsewhere than alone on the first axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_service.spaces.inspection import inspect
from latency_service.spaces.slicing import materialise
from pruning_client.graph import comparison, proof
from pruning_client.graph.space import Traced, make_space, trace
from pruning_client.graph.surgery import slim
from tests.support.networks import randomised

Forward = Callable[["_Backbone", Tensor], Tensor]


class _Backbone(nn.Module):
    """Two convolutions before a part that is given."""

    def __init__(self, rest: Forward, *layers: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(layers)
        self.queries = nn.Parameter(torch.randn(5, 12))
        self._rest = rest

    def forward(self, x: Tensor) -> Tensor:
        return self._rest(self, x)

    def apply_layer(self, index: int, x: Tensor) -> Tensor:
        y: Tensor = self.layers[index](x)
        return y

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))))


def pruned(model: nn.Module, example: Tensor) -> Traced:
    """The space of a model, after a check that all forms of it compute the same at any batch."""
    model = randomised(model)
    traced = make_space(model, example, minimum=1)
    keep = proof.random_keep(traced.space, seed=3)
    widths = [len(channels) for channels in keep]
    assert widths != traced.space.full_widths
    # the service infers all shapes
    assert inspect(traced.space.data)["macs"] > 0
    graph = materialise(traced.space, widths, keep=keep, weights=traced.weights)
    small = slim(model, traced, keep)
    exported = trace(small, traced.example)
    for batch in (1, 2, 3):
        x = torch.randn(batch, *example.shape[1:])
        wanted = proof.run_torch(small, [x])
        assert comparison.agree(wanted, proof.run_onnx(exported, [x]))
        assert comparison.agree(wanted, proof.run_onnx(graph, [x]))
        with proof.gated(model, traced.gates, keep):
            assert comparison.agree(wanted, proof.run_torch(model, [x]))
    return traced


def widths_of(traced: Traced) -> dict[str, int]:
    return {group.name: group.width for group in traced.space.groups}


def steps(model: _Backbone, x: Tensor) -> Tensor:
    """Features as a sequence [W, B, C]."""
    return model.features(x).mean(2).permute(2, 0, 1)


def without_state(model: _Backbone, x: Tensor) -> Tensor:
    return model.apply_layer(1, model.layers[0](steps(model, x))[0])


def with_state(model: _Backbone, x: Tensor) -> Tensor:
    state = torch.zeros(2, len(x), 6)
    return model.apply_layer(1, model.layers[0](steps(model, x), state)[0][-1])


@pytest.mark.parametrize(
    ("layer", "rest"),
    [
        (nn.LSTM(12, 6), without_state),
        (nn.GRU(12, 6, 2), with_state),
        (nn.RNN(12, 6), without_state),
    ],
)
def test_channels_that_a_recurrent_layer_reads_may_go(layer: nn.RNNBase, rest: Forward) -> None:
    traced = pruned(_Backbone(rest, layer, nn.Linear(6, 4)), torch.randn(2, 3, 8, 8))
    assert widths_of(traced) == {"first": 8, "second": 12}


@pytest.mark.parametrize(
    "rows",
    [
        lambda queries, count: queries.unsqueeze(1).repeat(1, count, 1),
        lambda queries, count: queries.unsqueeze(1).expand(-1, count, -1),
    ],
)
def test_queries_are_repeated_for_each_image(rows: Callable[[Tensor, int], Tensor]) -> None:
    def attend(model: _Backbone, x: Tensor) -> Tensor:
        memory = model.features(x).flatten(2).permute(2, 0, 1)
        queries = rows(model.queries, len(x))
        found = (queries.transpose(0, 1) @ memory.permute(1, 2, 0)).softmax(-1)
        return model.apply_layer(0, found @ memory.transpose(0, 1))

    traced = pruned(_Backbone(attend, nn.Linear(12, 4)), torch.randn(2, 3, 8, 8))
    assert widths_of(traced) == {"first": 8, "second": 12}


def test_rows_are_tiled_over_the_batch() -> None:
    def tile(model: _Backbone, x: Tensor) -> Tensor:
        y = model.features(x).mean((2, 3))
        return model.apply_layer(0, model.queries.repeat(len(y), 1) * y.repeat_interleave(5, 0))

    traced = pruned(_Backbone(tile, nn.Linear(12, 4)), torch.randn(2, 3, 8, 8))
    assert widths_of(traced) == {"first": 8, "second": 12}


def test_frames_are_images_of_a_batch() -> None:
    def per_frame(model: _Backbone, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        y = model.features(x.transpose(1, 2).reshape(b * t, c, h, w)).mean((2, 3))
        return model.apply_layer(0, y.view(b, t, -1).transpose(1, 2))

    traced = pruned(_Backbone(per_frame, nn.Conv1d(12, 4, 3)), torch.randn(2, 3, 4, 8, 8))
    assert widths_of(traced) == {"first": 8, "second": 12}


def test_a_shift_in_time_moves_channels_to_other_frames() -> None:
    def shifted(model: _Backbone, x: Tensor) -> Tensor:
        n, t, c, h, w = x.shape
        x = model.features(x.view(n * t, c, h, w))
        y = x.view(n, t, 12, 4, 4)
        moved = torch.zeros_like(y)
        moved[:, :-1, :4] = y[:, 1:, :4]
        moved[:, :, 4:] = y[:, :, 4:]
        y = x + model.apply_layer(0, moved.view(n * t, 12, 4, 4))
        return model.apply_layer(1, y.mean((2, 3))).view(n, t, -1).mean(1)

    layers = nn.Conv2d(12, 12, 3, padding=1), nn.Linear(12, 4)
    traced = pruned(_Backbone(shifted, *layers), torch.randn(2, 4, 3, 8, 8))
    assert widths_of(traced) == {"first": 8, "second": 4, "second#2": 8}


@pytest.mark.parametrize(
    "parts",
    [
        lambda y, n: (y[:n], y[n : 2 * n], y[-n:]),
        lambda y, n: y.chunk(3),
        lambda y, n: y.split(n),
        lambda y, n: y.split([n, n, n]),
        lambda y, n: y.view(3, n, *y.shape[1:]).unbind(0),
        lambda y, n: y.view(3, -1, *y.shape[1:]),
    ],
)
@pytest.mark.parametrize("counts", [False, True])
def test_images_joined_to_one_batch_are_parted_again(
    parts: Callable[[Tensor, int], Sequence[Tensor]], counts: bool
) -> None:
    def siamese(model: _Backbone, x: Tensor) -> Tensor:
        y = model.features(torch.cat([x, x.flip(3), x.flip(2)], 0))
        a, b, c = parts(y, len(x))
        if counts:
            # the smaller network is delivered as its graph
            a = a.reshape(len(x), 2, 6, 4, 4).reshape(len(x), 12, 4, 4)
        return model.apply_layer(0, a - b * c)

    traced = pruned(_Backbone(siamese, nn.Conv2d(12, 4, 1)), torch.randn(2, 3, 8, 8))
    assert widths_of(traced) == {"first": 8, "second": 6 if counts else 12}


def test_each_image_may_pick_one_of_its_rows() -> None:
    def pick(model: _Backbone, x: Tensor) -> Tensor:
        y = model.apply_layer(0, model.features(x).flatten(2).transpose(1, 2))
        return y[torch.arange(len(x)), y.sum(2).argmax(1)]

    traced = pruned(_Backbone(pick, nn.Linear(12, 4)), torch.randn(2, 3, 8, 8))
    assert widths_of(traced) == {"first": 8, "second": 12}
