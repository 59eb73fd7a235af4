from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from latency_service.spaces.errors import WidthsError
from latency_service.spaces.slicing import materialise
from pruning_client.graph import proof
from pruning_client.graph.errors import SurgeryError
from pruning_client.graph.graph_network import GraphNetwork
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim
from tests.support import more_networks, networks
from tests.support.traced_models import cifar, residual

keeps = st.tuples(
    *(st.sets(st.integers(0, width - 1), min_size=1) for width in (8, 8, 12, 12))
).map(lambda sets: [np.array(sorted(kept)) for kept in sets])


@given(keeps)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_channels_may_go(keep: list[np.ndarray]) -> None:
    model, traced = residual()
    assert traced.space.full_widths == [8, 8, 12, 12]
    small = slim(model, traced, keep)
    removed = materialise(
        traced.space, [len(kept) for kept in keep], keep=keep, weights=traced.weights
    )
    wanted = proof.run_onnx(removed, traced.example)[0]
    np.testing.assert_allclose(proof.run_torch(small, traced.example)[0], wanted, atol=1e-5)


def test_users_class_stays_and_its_modules_know_their_sizes() -> None:
    model, traced = residual()
    keep = [np.array([1, 4, 6]), np.array([0, 7]), np.array([2, 3, 5, 11]), np.array([9])]
    small = slim(copy.deepcopy(model).train(), traced, keep)
    assert type(small) is networks.ResidualNet
    assert small.training
    assert not model.training
    assert (small.conv1.in_channels, small.conv1.out_channels) == (3, 3)
    assert small.bn1.num_features == 3
    assert small.fc.in_features == 1
    assert torch.equal(small.conv1.weight, model.get_parameter("conv1.weight")[[1, 4, 6]])
    assert small.conv1.weight.requires_grad
    assert all(p.is_contiguous() for p in small.parameters())


def test_hard_coded_counts_get_a_graph_that_trains() -> None:
    model, traced = cifar()
    keep = proof.random_keep(traced.space, seed=5)
    small = slim(model.train(), traced, keep)
    model.eval()
    assert isinstance(small, GraphNetwork)
    assert small.training
    assert small.state_dict().keys() == model.state_dict().keys()
    norms = [module for module in small.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    small(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in small.parameters())
    assert len(norms) == 7
    assert all(
        not torch.equal(old, norm.running_mean) for old, norm in zip(before, norms, strict=True)
    )
    batches = [copy.deepcopy(small).eval()(torch.randn(n, 3, 16, 16)).shape for n in (1, 5)]
    assert batches == [(1, 10), (5, 10)]


def test_nothing_removed_is_the_same_network() -> None:
    model, traced = residual()
    full = [np.arange(group.width) for group in traced.space.groups]
    small = slim(model, traced, full)
    assert all(
        torch.equal(value, small.state_dict()[name]) for name, value in model.state_dict().items()
    )


def test_a_network_in_channels_last_has_the_same_space_and_stays_in_it() -> None:
    model, traced = cifar()
    model_last = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(1, 3, 16, 16).to(memory_format=torch.channels_last)
    assert make_space(model_last, images, minimum=1).space.id == traced.space.id
    keep = [np.arange(width // 2) for width in traced.space.full_widths]
    last = slim(model_last, traced, keep)
    small = slim(model, traced, keep)
    for (name, one), other in zip(last.named_parameters(), small.parameters(), strict=True):
        assert torch.equal(one, other), name
        assert one.dim() < 4 or one.is_contiguous(memory_format=torch.channels_last), name
        assert other.is_contiguous(), name


def test_channels_that_do_not_exist_are_refused() -> None:
    model, traced = residual()
    with pytest.raises(WidthsError, match="conv1"):
        slim(model, traced, [np.array([8]), *(np.array([0]) for _ in range(3))])
    with pytest.raises(WidthsError, match="4 width groups"):
        slim(model, traced, [np.array([0])])


def test_another_network_is_refused() -> None:
    _, traced = residual()

    class Doubled(networks.ResidualNet):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    with pytest.raises(SurgeryError, match="Doubled cannot be made smaller"):
        slim(Doubled(widths=(8, 12), blocks=1), traced, proof.random_keep(traced.space))


def test_grouped_modules_follow_their_groups() -> None:
    model = networks.randomised(more_networks.DepthMultiplier())
    traced = make_space(model, more_networks.inputs_of(model), minimum=1)
    small = slim(model, traced, [np.array([0, 3, 5]), np.array([1, 2])])
    assert (small.depthwise.groups, small.depthwise.in_channels, small.depthwise.out_channels) == (
        3,
        3,
        6,
    )
    assert (small.up.groups, small.up.in_channels, small.up.out_channels) == (2, 4, 2)
