from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from latency_service.spaces import slicing
from latency_service.spaces.layers import total_macs, total_parameters
from pruning_client.graph import proof
from pruning_client.graph.space import (
    ExportError,
    SearchSpace,
    Traced,
    export_onnx,
    make_space,
    trace,
)
from tests.support import networks

EXAMPLE = torch.randn(1, 3, 8, 8)


@cache
def residual() -> tuple[nn.Module, Traced]:
    model = networks.randomised(networks.ResidualNet(widths=(8, 12), blocks=1))
    return model, make_space(model, EXAMPLE)


def test_initializers_are_the_state_dict_and_batch_norm_stays() -> None:
    model, _ = residual()
    graph = trace(model, EXAMPLE)
    names = {tensor.name for tensor in graph.graph.initializer}
    state = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}
    assert state <= names
    assert sum(node.op_type == "BatchNormalization" for node in graph.graph.node) == 6
    assert [entry.name for entry in graph.graph.input] == ["x"]
    assert [entry.name for entry in graph.graph.output] == ["output"]
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    onnx.checker.check_model(graph, full_check=True)


def test_trace_says_nothing_about_where_it_was_made() -> None:
    model, _ = residual()
    data = trace(model, EXAMPLE).SerializeToString(deterministic=True)
    assert data == trace(model, EXAMPLE).SerializeToString(deterministic=True)
    for secret in (b"site-packages", b"tests/", b"/networks.py", b"torch/nn"):
        assert secret not in data


def test_model_is_left_as_it_was() -> None:
    model = networks.ResidualNet(widths=(8, 12), blocks=1).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    traced = make_space(model, EXAMPLE)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    # untrained weights and statistics are no reason to see other groups
    assert traced.space.groups == residual()[1].space.groups
    assert traced.space.id == residual()[1].space.id


def test_space_holds_no_weights() -> None:
    _, traced = residual()
    assert len(traced.space.data) < 20_000
    for value in traced.weights.values():
        if value.size > 8:
            assert value.tobytes()[:32] not in traced.space.data


def test_gates_lie_behind_the_norms_and_know_their_channels() -> None:
    model, traced = residual()
    gates = {gate.module: gate for gate in traced.gates}
    assert list(gates) == [
        "bn1",
        *(f"layers.{n}" for n in ("0.0.bn1", "0.0.bn2", "1.0.bn1", "1.0.bn2", "1.0.shortcut.1")),
    ]
    names = [group.name for group in traced.space.groups]
    shortcut = gates["layers.1.0.shortcut.1"]
    assert shortcut.axis == 1
    assert {names[g] for g in shortcut.group} == {"layers.1.0.conv2"}
    assert shortcut.channel.tolist() == list(range(12))
    for gate in traced.gates:
        assert isinstance(model.get_submodule(gate.module), nn.BatchNorm2d)


def test_producers_are_the_members_and_name_their_filters() -> None:
    model, traced = residual()
    for index, group in enumerate(traced.space.groups):
        makers = [entry for entry in traced.producers if entry.group == index]
        assert [entry.module for entry in makers] == group.members
        for entry in makers:
            assert not entry.depthwise
            assert np.unique(entry.channels).tolist() == list(range(group.width))
            assert entry.filters.max() < model.get_submodule(entry.module).weight.shape[0]


def test_depthwise_producers_are_marked() -> None:
    traced = make_space(networks.MobileNet(), torch.randn(1, 3, 8, 8))
    assert {entry.module for entry in traced.producers if entry.depthwise} == {
        f"features.{i}.body.3" for i in (1, 2, 3)
    }


def test_readers_name_the_channels_of_their_inputs() -> None:
    model, traced = residual()
    readers = {entry.module: entry for entry in traced.readers}
    names = [group.name for group in traced.space.groups]
    # the stem reads the image, whose channels are never removed
    stem = traced.producers[0].module
    assert stem not in readers
    for entry in readers.values():
        module = model.get_submodule(entry.module)
        assert len(entry.group) == len(entry.channel) == module.weight.shape[1]
        assert entry.axis == (-1 if isinstance(module, nn.Linear) else 1)
    second = readers["layers.1.0.conv2"]
    assert {names[g] for g in second.group} == {"layers.1.0.conv1"}
    assert second.channel.tolist() == list(range(12))
    # both branches of a block read the stream, and the classifier reads its last width
    assert (
        readers["layers.1.0.conv1"].group.tolist()
        == readers["layers.1.0.shortcut.0"].group.tolist()
    )
    linear = next(m for m in readers if isinstance(model.get_submodule(m), nn.Linear))
    assert {names[g] for g in readers[linear].group} == {"layers.1.0.conv2"}


def test_depthwise_readers_read_the_channels_that_they_produce() -> None:
    traced = make_space(networks.MobileNet(), torch.randn(1, 3, 8, 8))
    depthwise = {entry.module: entry for entry in traced.readers if entry.depthwise}
    assert set(depthwise) == {f"features.{i}.body.3" for i in (1, 2, 3)}
    made = {entry.module: entry for entry in traced.producers}
    for name, entry in depthwise.items():
        assert entry.channel.tolist() == made[name].channels.tolist()
        assert set(entry.group.tolist()) == {made[name].group}


def test_minimum_can_be_chosen() -> None:
    _, traced = residual()
    assert [group.minimum for group in traced.space.groups] == [4] * 4
    model = networks.ResidualNet(widths=(4, 60), blocks=1)
    default = {
        group.width: group.minimum for group in make_space(model, EXAMPLE, name="wide").space.groups
    }
    assert default == {4: 4, 60: 6}
    chosen = make_space(model, EXAMPLE, minimum=50)
    assert {group.width: group.minimum for group in chosen.space.groups} == {4: 4, 60: 50}
    assert chosen.space.manifest.name == "ResidualNet"


def test_macs_and_parameters_of_the_dense_network() -> None:
    model, traced = residual()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    buffers = sum(m.running_mean.numel() + m.running_var.numel() for m in norms)
    assert total_parameters(traced.space, traced.space.full_widths) == buffers + sum(
        p.numel() for p in model.parameters()
    )
    macs = 64 * 9 * (3 * 8 + 8 * 8 + 8 * 8) + 16 * (9 * 8 * 12 + 9 * 12 * 12 + 8 * 12) + 12 * 10
    assert total_macs(traced.space, traced.space.full_widths) == macs


def test_tied_weights_shrink_together() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 1)
            self.second = nn.Conv2d(8, 8, 1)
            self.third = nn.Conv2d(8, 8, 1)
            self.last = nn.Conv2d(8, 4, 1)
            self.third.weight = self.second.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.relu(self.third(F.relu(self.second(F.relu(self.first(x)))))))

    traced = make_space(Tied(), EXAMPLE)
    assert [group.width for group in traced.space.groups] == [8]
    assert set(traced.space.groups[0].members) == {"first", "second", "third"}


def test_unknown_operators_pin_what_they_touch() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 1)
            self.second = nn.Conv2d(8, 8, 1)
            self.last = nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.first(x))
            return self.last(torch.cumsum(self.second(y), dim=1))

    traced = make_space(Odd(), EXAMPLE)
    assert [group.name for group in traced.space.groups] == ["first"]
    assert "CumSum" in traced.space.manifest.unprunable["second"]


def test_functional_weights_are_left_alone() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(8, 3, 3, 3))
            self.conv = nn.Conv2d(8, 8, 1)
            self.last = nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.relu(self.conv(F.relu(F.conv2d(x, self.kernel)))))

    traced = make_space(Functional(), EXAMPLE)
    assert [group.name for group in traced.space.groups] == ["conv"]
    assert "no gate can follow" in traced.space.manifest.unprunable["kernel"]


def test_weights_computed_from_parameters_are_left_alone() -> None:
    class Standardised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 1)
            self.conv = nn.Conv2d(8, 8, 1)
            self.last = nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            weight = self.first.weight - self.first.weight.mean((1, 2, 3), keepdim=True)
            return self.last(F.relu(self.conv(F.relu(F.conv2d(x, weight)))))

    traced = make_space(Standardised(), EXAMPLE)
    assert [group.name for group in traced.space.groups] == ["conv"]
    assert "without calling the module" in traced.space.manifest.unprunable["first"]


class _Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class _Depends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.inner = _Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.conv(x))


def test_errors_name_the_module(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportError, match=r"module 'inner' \(_Inner\) cannot be exported"):
        trace(_Depends(), EXAMPLE)
    with pytest.raises(
        ExportError, match=r"input of shape \(2, 5, 8, 8\) in module 'conv' \(Conv2d\)"
    ):
        trace(_Depends(), torch.randn(1, 5, 8, 8))
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


def test_export_flushes_denormals_and_says_how_many(tmp_path: Path) -> None:
    model, _ = residual()
    model = proof.redrawn(model)
    with torch.no_grad():
        model.get_parameter("conv1.weight").view(-1)[:5] = 1e-40
    exported = export_onnx(model, EXAMPLE, tmp_path / "model.onnx")
    assert exported.denormals_flushed == 5
    graph = onnx.load(exported.path)
    weight = next(t for t in graph.graph.initializer if t.name == "conv1.weight")
    assert (numpy_helper.to_array(weight).ravel()[:5] == 0).all()
    again = export_onnx(model, EXAMPLE, tmp_path / "again.onnx")
    assert again.path.read_bytes() == exported.path.read_bytes()


def test_a_space_is_made_saved_and_loaded(tmp_path: Path) -> None:
    model = networks.ResidualNet(widths=(8, 12), blocks=1)
    space = SearchSpace.from_model(model, EXAMPLE)
    assert isinstance(space, slicing.SearchSpace)
    assert space.id == make_space(model, EXAMPLE).space.id
    file = space.save(tmp_path / "network.space")
    loaded = SearchSpace.load(file)
    assert isinstance(loaded, SearchSpace)
    assert loaded.id == space.id
    assert slicing.SearchSpace.load(str(file)).full_widths == space.full_widths


def test_a_space_from_the_shape_of_an_image() -> None:
    model = networks.ResidualNet(widths=(8, 12), blocks=1)
    by_shape = SearchSpace.from_model(model, tuple(EXAMPLE.shape[1:]), name="net", minimum=2)
    assert by_shape.id == SearchSpace.from_model(model, (EXAMPLE,), name="net", minimum=2).id
    assert by_shape.manifest.name == "net"
    assert {group.minimum for group in by_shape.groups} == {2}
