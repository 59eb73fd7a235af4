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
    """Whole channels of a pixel shuffle, and of a norm over a concatenation."""
    for family in ("pixel-shuffle", "densenet", "unet"):
        model, traced = traced_family(family)
        network = ControlledNetwork(model, traced, gaussian_knockoffs, 0)
        for layer, beta in zip(network.layers, network.betas, strict=True):
            pairs = set(zip(layer.group.tolist(), layer.channel.tolist(), strict=True))
            assert len(pairs) == len(beta)
        scores = control_scores(model, traced, network)
        assert [len(score) for score in scores] == [g.width for g in traced.space.groups]
