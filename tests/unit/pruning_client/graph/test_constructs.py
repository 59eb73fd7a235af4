"""Constructs that random networks found wanting, each in the smallest network that has it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_service.spaces.layers import total_macs
from latency_service.spaces.slicing import SearchSpace
from pruning_client.graph import proof
from pruning_client.graph.bisection import failing_groups
from pruning_client.graph.errors import ExportError
from pruning_client.graph.removal import slim_modules
from pruning_client.graph.space import make_space, trace
from tests.support import random_blocks as blocks
from tests.support.constructs import between, images, slimmed, widths_of
from tests.support.networks import randomised


class _UsesWeights(nn.Module):
    """Like the attention of Swin transformers: the weights of one layer, and a table of constants
    through another.
    """

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(8, 8, 1)
        self.of_table = nn.Linear(3, 4)
        self.register_buffer("table", torch.randn(1, 5, 3))

    def forward(self, x: Tensor) -> Tensor:
        shift = self.of_table(self.table).mean()
        return F.conv2d(x, self.used.weight, self.used.bias) + shift


def _proofs(monkeypatch: pytest.MonkeyPatch) -> list[proof.Keep]:
    """Channels that are kept in each proof from now on."""
    keeps: list[proof.Keep] = []

    def failing(
        space: SearchSpace, fault: Callable[[proof.Keep], str | None]
    ) -> Iterator[tuple[int, str]]:
        return failing_groups(space, lambda keep: keeps.append(keep) or fault(keep))

    monkeypatch.setattr("pruning_client.graph.space.failing_groups", failing)
    return keeps


def test_weights_of_a_module_that_is_not_called_stay_without_any_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keeps = _proofs(monkeypatch)
    traced, _ = slimmed(between(_UsesWeights()))
    assert widths_of(traced) == {"0": 8}
    assert "without calling the module" in traced.space.manifest.unprunable["1.used"]
    assert len(keeps) == 1
    assert total_macs(traced.space, [8]) > 0


class _Rolled(nn.Module):
    """Rolls its padded input twice: the exporter loses the size behind the padding."""

    def __init__(self, shifts: tuple[int, ...], dims: tuple[int, ...]) -> None:
        super().__init__()
        self._rolls = (shifts, dims)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, 1))
        return torch.roll(torch.roll(x, *self._rolls), *self._rolls).permute(0, 3, 1, 2)


@pytest.mark.parametrize("shifts", [(3, 3), (-3, 20), (0, 9)])
def test_windows_that_are_shifted_keep_their_channels(shifts: tuple[int, int]) -> None:
    traced, _ = slimmed(between(_Rolled(shifts, (1, -2))))
    assert widths_of(traced) == {"0": 8}
    assert "Mod" not in {node.op_type for node in traced.space.model.graph.node}


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norms_with_running_statistics_are_norms_per_channel(affine: bool) -> None:
    norm = nn.InstanceNorm2d(8, affine=affine, track_running_stats=True)
    traced, small = slimmed(between(norm, nn.ReLU()))
    assert widths_of(traced) == {"0": 8}
    assert type(small) is nn.Sequential
    assert "BatchNormalization" in {node.op_type for node in traced.space.model.graph.node}


def test_every_other_channel_goes_with_its_neighbour() -> None:
    body = nn.Conv2d(4, 4, 3, padding=1)
    traced, _ = slimmed(between(blocks.Interleaved(body)))
    assert widths_of(traced) == {"0": 4, "1.first": 4}
    assert [group.unit for group in traced.space.groups] == [2, 1]


def test_an_odd_channel_at_the_end_of_steps_is_alone() -> None:
    body = nn.Conv2d(4, 4, 3, padding=1)
    traced, _ = slimmed(between(blocks.Interleaved(body), width=7))
    assert widths_of(traced)["0"] == 3


def test_reversed_channels_are_the_same_channels() -> None:
    traced, _ = slimmed(between(nn.ReLU(), blocks.Moved("flip", [])))
    assert widths_of(traced) == {"0": 8}


@pytest.mark.parametrize("affine", [True, False])
def test_groups_of_a_norm_go_as_a_whole(affine: bool) -> None:
    norm = nn.GroupNorm(3, 24, affine=affine)
    traced, small = slimmed(between(norm, nn.ReLU(), width=24))
    assert widths_of(traced) == {"0": 3}
    assert traced.space.groups[0].unit == 8
    assert small.get_submodule("1").num_groups == 2


def test_norms_without_tensors_know_their_channels() -> None:
    norm = nn.InstanceNorm2d(8)
    traced = make_space(model := between(norm), images(), minimum=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = slim_modules(model, traced, proof.random_keep(traced.space))
        small(images())
    assert small.get_submodule("1").num_features == 5


class _StarReLU(nn.Module):
    """`s * relu(x) ** 2 + b`, as MetaFormers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.relu(x) ** 2 + self.bias


@pytest.mark.parametrize("kind", [nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, _StarReLU])
def test_gates_stand_behind_activations_that_move_zero(kind: type[nn.Module]) -> None:
    traced, _ = slimmed(between(kind()))
    assert widths_of(traced) == {"0": 8}
    assert [gate.module for gate in traced.gates] == ["0", "1"]


def test_one_proof_finds_all_activations_of_a_kind_that_move_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keeps = _proofs(monkeypatch)
    layers = [part for _ in range(7) for part in (nn.Conv2d(8, 8, 1), _StarReLU())]
    traced, _ = slimmed(between(_StarReLU(), *layers))
    assert len(widths_of(traced)) == 8
    assert len(keeps) <= 6


def test_an_activation_used_twice_has_no_gate_of_its_own() -> None:
    shared = nn.Sigmoid()
    model = between(shared, nn.Conv2d(8, 6, 1), shared, after=6)
    traced = make_space(model, images(), minimum=1)
    assert not traced.space.groups
    assert "Sigmoid" in traced.space.manifest.unprunable["0"]


class _JoinsAndTakes(nn.Module):
    """A slice over the border of two parts, and counts in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(4, 8, affine=False)
        self.other = nn.Conv2d(3, 8, 3, padding=1)
        self.activation = nn.Softplus()
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> list[object]:
        y = torch.cat([self.norm(self.first(x)), self.activation(self.other(x))], 1)
        return [self.last(y[:, 4:12]), None, 2]


def test_slices_over_the_border_of_parts_leave_a_graph_with_its_norms() -> None:
    traced, small = slimmed(randomised(_JoinsAndTakes()))
    assert sum(widths_of(traced).values()) == 12
    assert not isinstance(small, _JoinsAndTakes)
    assert small(images())[1:] == [None, 2]
    assert len(trace(small, images()).graph.output) == 1


class _Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> dict[str, object]:
        y = self.last(F.relu(self.first(x)))
        return {"loss": None, "maps": [y, y.mean((2, 3))], "stride": 2}


def test_outputs_that_are_no_tensors_are_left_to_the_module() -> None:
    traced, small = slimmed(randomised(_Mixed()))
    assert widths_of(traced) == {"first": 8}
    assert [entry.name for entry in traced.space.model.graph.output] == ["output_0", "output_1"]
    assert small(images())["stride"] == 2


class _Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def test_the_module_of_an_operator_that_onnx_lacks_is_named() -> None:
    with pytest.raises(ExportError, match=r"module '1' \(_Bessel\) cannot be exported.*bessel_j0"):
        make_space(between(_Bessel()), images())


class _Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nonzero(F.relu(self.conv(x)))


def test_weights_that_no_graph_in_one_piece_holds_are_refused_at_once() -> None:
    large = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten())
    large.register_buffer("table", torch.empty(1, dtype=torch.float64).expand(2**28))
    with pytest.raises(ExportError, match=r"2\.0 GiB of weights"):
        trace(large, images())


def test_the_module_before_a_shape_that_depends_on_values_is_named() -> None:
    with pytest.raises(ExportError, match=r"behind module 'conv' \(Conv2d\), depends on values"):
        make_space(_Positions(), images())
