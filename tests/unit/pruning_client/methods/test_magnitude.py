"""Criteria of the baselines against their definitions, and group norms against torch-pruning's own
code.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from pruning_client.data.sources import as_batches
from pruning_client.graph.space import Traced, make_space
from pruning_client.methods import allocation, magnitude
from pruning_client.methods.base import Context
from pruning_client.methods.registry import method_of
from tests.support import analytic
from tests.support.networks import CifarResNet
from tests.support.tiny_networks import TinyNet, tiny_net


@pytest.fixture
def net() -> TinyNet:
    model = tiny_net()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(1))
    return model


def group_of(traced: Traced, layer: str) -> int:
    return next(producer.group for producer in traced.producers if producer.module == layer)


def test_l2_is_the_root_mean_square_of_filters(net: TinyNet, traced: Traced) -> None:
    found = magnitude.l2_scores(net, traced)[group_of(traced, "block.conv1")]
    expected = net.block.conv1.weight.detach().square().mean((1, 2, 3)).sqrt()
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


def test_bn_scale_is_the_mean_of_the_groups_norms(net: TinyNet, traced: Traced) -> None:
    scores = magnitude.bn_scale_scores(net, traced)
    alone = scores[group_of(traced, "block.conv1")]
    shared = scores[group_of(traced, "conv")]
    np.testing.assert_allclose(alone, net.block.bn1.weight.detach().abs().numpy(), rtol=1e-5)
    both = (net.bn.weight.abs() + net.block.bn2.weight.abs()) / 2
    np.testing.assert_allclose(shared, both.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("share", [0.65, 0.55, 0.45])
def test_uniform_widths_stay_even_when_they_use_up_the_budget(share: float) -> None:
    torch.manual_seed(0)
    model = CifarResNet(1)
    traced = make_space(model, torch.zeros(2, 3, 32, 32))
    predictor = analytic.predictor(traced.space)
    context = Context(
        model=model,
        traced=traced,
        train=as_batches((torch.zeros(2, 3, 32, 32), torch.arange(2))),
        predictor=predictor,
        target_ms=share * predictor.sidecar.dense_ms,
    )

    def apart(widths: Sequence[int]) -> float:
        """How far the shares of groups are apart."""
        return float(np.ptp(np.array(widths) / traced.space.full_widths))

    found = method_of("uniform").run(context)
    assert 0.99 < predictor.one_ms(found.widths) / context.target_ms <= 1
    assert apart(found.widths) < apart(method_of("l1").run(context).widths)
    lattice, target_ms = predictor.lattice, context.target_ms
    scores = magnitude.l1_scores(model, traced)
    rate = allocation.uniform(scores, predictor.latency_ms, lattice, target_ms)
    filled = allocation.fit(rate, scores, predictor.latency_ms, lattice, target_ms)
    assert apart(found.widths) < apart(filled), "one rate, the rest of the budget by magnitudes"
    # whatever scores the channels
    for criterion in ("bn-scale", "group-norm"):
        other = method_of(criterion, allocator="uniform").run(context)
        assert other.widths == found.widths


def test_a_group_without_norms_is_ranked_by_its_filters() -> None:
    torch.manual_seed(0)
    bare = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    traced = make_space(bare, torch.zeros(2, 1, 8, 8))
    for a, b in zip(
        magnitude.bn_scale_scores(bare, traced), magnitude.l2_scores(bare, traced), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layer", ["conv", "block.conv1"])
def test_group_norm_is_torch_prunings(net: TinyNet, traced: Traced, layer: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruning = pytest.importorskip("torch_pruning")
        graph = pruning.DependencyGraph().build_dependency(
            net, example_inputs=torch.zeros(2, 1, 8, 8)
        )
        group = graph.get_pruning_group(
            net.get_submodule(layer), pruning.prune_conv_out_channels, idxs=list(range(16))
        )
        expected = pruning.importance.GroupMagnitudeImportance()(group).numpy()
    found = magnitude.group_norm_scores(net, traced)[group_of(traced, layer)]
    np.testing.assert_allclose(found / found.mean(), expected, rtol=1e-4)


def test_group_norm_reads_the_layers_behind(net: TinyNet, traced: Traced) -> None:
    group = group_of(traced, "block.conv1")
    before = magnitude.group_norm_scores(net, traced)[group]
    with torch.no_grad():
        net.block.conv2.weight[:, 3] *= 10
    after = magnitude.group_norm_scores(net, traced)[group]
    assert int(np.argmax(after)) == 3
    np.testing.assert_allclose(np.delete(after, 3), np.delete(before, 3))
