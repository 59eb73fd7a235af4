from __future__ import annotations

import numpy as np
import torch

from pruning_client.methods.scop.knockoffs import gaussian_knockoffs
from pruning_client.methods.scop.scaling import ControlledNetwork
from pruning_client.methods.scop.scores import control_scores, positive
from tests.support.families import traced_family


def test_the_score_is_gamma_times_what_the_real_feature_is_worth() -> None:
    """Of a group with one norm, relative to the mean of its scales."""
    model, traced = traced_family("residual")
    network = ControlledNetwork(model, traced, gaussian_knockoffs, 0)
    group = next(p.group for p in traced.producers if p.module == "layers.0.0.conv1")
    place = [layer.point.module for layer in network.layers].index("layers.0.0.bn1")
    beta = torch.linspace(0, 1, 8)
    with torch.no_grad():
        network.betas[place].copy_(beta)
    gamma = model.get_submodule("layers.0.0.bn1").weight.detach().abs()
    expected = (gamma / gamma.mean() * (2 * beta - 1)).numpy()
    found = control_scores(model, traced, network)
    np.testing.assert_allclose(found[group], expected, rtol=1e-5)
    assert all(not score.any() for g, score in enumerate(found) if g != group), "2 x 0.5 - 1"


def test_a_group_of_several_layers_has_their_mean() -> None:
    model, traced = traced_family("residual")
    network = ControlledNetwork(model, traced, gaussian_knockoffs, 0)
    group = next(p.group for p in traced.producers if p.module == "conv1")
    places = [i for i, layer in enumerate(network.layers) if group in layer.group]
    assert [network.layers[i].point.module for i in places] == [
        "bn1",
        "layers.0.0.bn2",
        "layers.0.1.bn2",
    ]
    with torch.no_grad():
        network.betas[places[0]].fill_(1.0)
    gamma = model.get_submodule("bn1").weight.detach().abs()
    found = control_scores(model, traced, network)[group]
    np.testing.assert_allclose(found, (gamma / gamma.mean() / 3).numpy(), rtol=1e-5)


def test_positive_scores_keep_the_order_and_ignore_what_is_below_zero() -> None:
    (found,) = positive([np.array([0.5, -0.4, 1.0, 0.0, -0.1])])
    assert np.argsort(found).tolist() == [1, 4, 3, 0, 2]
    assert float(found.min()) > 0
    assert float(found[[1, 3, 4]].max()) < 0.01 * float(found[0])


def test_channels_at_several_positions_share_a_beta() -> None:
    """A depthwise convolution makes two of each channel of the stem."""
    model, traced = traced_family("depth-multiplier")
    network = ControlledNetwork(model, traced, gaussian_knockoffs, 0)
    at = {layer.point.module: index for index, layer in enumerate(network.layers)}
    twofold = at["norm"]
    assert len(network.layers[twofold].index) == 24
    assert len(network.betas[twofold]) == 12
    with torch.no_grad():
        network.betas[twofold].copy_(torch.linspace(0, 1, 12))
    gamma = model.get_submodule("norm").weight.detach().abs()
    expected = (gamma / gamma.mean()).view(12, 2).mean(1) * torch.linspace(-1, 1, 12)
    group = next(p.group for p in traced.producers if p.module == "stem.0")
    places = sum(group in layer.group for layer in network.layers)
    found = control_scores(model, traced, network)[group]
    np.testing.assert_allclose(found, (expected / places).numpy(), rtol=1e-5)
