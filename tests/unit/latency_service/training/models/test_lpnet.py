from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from latency_service.spaces.layers import layers
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.models import lpnet_network
from latency_service.training.models.layer_features import LayerFeatures, build_layer_features
from latency_service.training.models.lpnet import LPNet, fit_lpnets
from tests.support.simulated import mixed_space, residual_space, sampled, simulated_ms

Floats = np.ndarray


def fitted(
    space: SearchSpace, widths: Floats, latency: Floats, weights: Floats | None = None
) -> list[LPNet]:
    features = build_layer_features(layers(space), widths)
    weights = np.ones((1, len(widths))) if weights is None else weights
    return fit_lpnets(features, widths, latency, weights, members=2, seed=0)


def mape(model: LPNet, space: SearchSpace, widths: Floats) -> float:
    return float(
        100 * np.mean(np.abs(np.exp(model.log_latency(widths)) / simulated_ms(space, widths) - 1))
    )


@pytest.mark.parametrize("make", [residual_space, mixed_space])
def test_a_sawtooth_is_learned_from_fifty_measurements(make: object) -> None:
    space = make()  # type: ignore[operator]
    widths = sampled(space, 150, seed=0)
    (model,) = fitted(space, widths[:50], simulated_ms(space, widths[:50]))
    assert mape(model, space, widths[50:]) < 1.5


def test_a_cost_of_single_channel_counts_is_learned_from_all_layers(space: SearchSpace) -> None:
    """As a kernel has it that is slow at some counts: no smooth function and no whole blocks."""
    widths = sampled(space, 200, seed=0)
    slow = np.random.default_rng(0).uniform(1.0, 1.3, 65)
    at = widths.astype(float)
    times = [
        layer.macs(at) * np.prod([slow[c.at(at).astype(int)] for c in (layer.c_in, layer.c_out)], 0)
        for layer in layers(space)
    ]
    latency = 0.05 + np.sum(times, axis=0) / 5e7
    features = build_layer_features(layers(space), widths)
    plain = replace(features, knots=np.array([0.0, 1e9]))
    weights = (np.arange(200) < 100).astype(float)[None]

    def error(of: LayerFeatures) -> float:
        (model,) = fit_lpnets(of, widths, latency, weights, members=2, seed=0)
        return 100 * float(np.abs(np.exp(model.log_latency(widths)) / latency - 1)[100:].mean())

    assert error(features) < 0.5 * error(plain)


def test_disturbed_measurements_do_not_bend_it(space: SearchSpace) -> None:
    widths = sampled(space, 180, seed=0)
    latency = simulated_ms(space, widths[:80])
    latency[5:80:12] *= 1.25
    (model,) = fitted(space, widths[:80], latency)
    assert mape(model, space, widths[80:]) < 2.5


def test_what_a_fold_does_not_see_does_not_matter(space: SearchSpace) -> None:
    widths = sampled(space, 40, seed=0)
    latency = simulated_ms(space, widths)
    weights = np.ones((1, 40))
    weights[0, 30:] = 0
    other = np.where(weights[0] > 0, latency, 0.001 * latency)
    first = fitted(space, widths, latency, weights)[0]
    second = fitted(space, widths, other, weights)[0]
    np.testing.assert_array_equal(first.log_latency(widths), second.log_latency(widths))


def test_it_says_by_how_much_it_misses_what_it_does_not_see(space: SearchSpace) -> None:
    widths = sampled(space, 240, seed=0)
    latency = simulated_ms(space, widths) * np.exp(
        0.01 * np.random.default_rng(0).standard_normal(240)
    )
    weights = np.stack([np.arange(240) < count for count in (25, 50)]).astype(float)
    missed = []
    for model, seen in zip(fitted(space, widths, latency, weights), weights > 0, strict=True):
        off = (model.log_latency(widths) - np.log(latency))[~seen]
        missed.append(float(np.median(np.abs(off))) / 0.6745)  # of a normal deviate
        assert np.median(model.unseen_deviation[~seen]) == pytest.approx(missed[-1], rel=0.5)
        assert np.median(model.unseen_deviation[seen]) == pytest.approx(missed[-1], rel=0.5)
    assert missed[1] < missed[0]


def test_folds_are_fitted_as_if_each_were_alone(space: SearchSpace) -> None:
    widths = sampled(space, 40, seed=0)
    latency = simulated_ms(space, widths)
    weights = np.ones((2, 40))
    weights[0, :8] = 0
    together = fitted(space, widths, latency, weights)
    alone = [fitted(space, widths, latency, row[None])[0] for row in weights]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.log_latency(widths), other.log_latency(widths), atol=1e-3)


def test_below_the_sampled_range_it_goes_on_sensibly(space: SearchSpace) -> None:
    widths = sampled(space, 60, seed=0, least=0.5)
    (model,) = fitted(space, widths, simulated_ms(space, widths))
    small = np.array([[4] * len(space.groups)])
    assert 0.5 < np.exp(model.log_latency(small)[0]) / simulated_ms(space, small)[0] < 2


def test_the_jacobian_is_the_derivative(space: SearchSpace) -> None:
    widths = sampled(space, 5, seed=0)
    known = build_layer_features(layers(space), widths)
    inputs = lpnet_network.Inputs(
        features=torch.as_tensor(known.at(widths)),
        hats=torch.as_tensor(known.hats_at(widths)),
        log_macs=torch.as_tensor(known.log_macs(widths)),
    )
    count, size = inputs.features.shape[1:]
    generator = torch.Generator().manual_seed(0)
    hats = inputs.hats.shape[2]
    shapes = [(size,), (size, 3), (3,), (3,), (count,), (hats,), (1,), (1,)]
    p = lpnet_network.Parameters(
        *(torch.randn(1, *s, generator=generator, dtype=torch.float64) for s in shapes)
    )
    got = lpnet_network.jacobian(p, inputs, lpnet_network.forward(p, inputs))
    parts = torch.autograd.functional.jacobian(
        lambda *q: lpnet_network.forward(lpnet_network.Parameters(*q), inputs).log_latency,
        tuple(p),
    )
    expected = torch.cat([part[0, :, 0].reshape(len(widths), -1) for part in parts], dim=1)
    torch.testing.assert_close(got[0], expected)


def test_its_parts_add_up_to_it(space: SearchSpace) -> None:
    widths = sampled(space, 20, seed=0)
    (model,) = fitted(space, widths, simulated_ms(space, widths))
    at = widths.astype(float)
    parts = [
        model.layer_time(number, layer.c_in.at(at), layer.c_out.at(at), layer.depth.at(at))
        for number, layer in enumerate(layers(space))
    ]
    np.testing.assert_allclose(
        model.overhead + np.sum(parts, axis=0), np.exp(model.log_latency(widths))
    )


def test_progress_goes_up_to_the_end(space: SearchSpace) -> None:
    widths = sampled(space, 12, seed=0)
    told: list[float] = []
    features = build_layer_features(layers(space), widths)
    latency = simulated_ms(space, widths)
    fit_lpnets(features, widths, latency, np.ones((1, 12)), members=1, seed=0, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
