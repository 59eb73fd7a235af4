from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latency_service.spaces.layers import layers
from latency_service.training.models.layer_features import BLOCKS, KNOTS, build_layer_features
from tests.support.simulated import mixed_space, residual_space, sampled

SPACES = {"residual": residual_space, "mixed": mixed_space}


@pytest.mark.parametrize("name", SPACES)
def test_features_are_standardised_and_none_is_constant(name: str) -> None:
    space = SPACES[name]()
    widths = sampled(space, 40, seed=0)
    features = build_layer_features(layers(space), widths)
    flat = features.at(widths).reshape(-1, features.size)
    np.testing.assert_allclose(flat.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(flat.std(0), 1, atol=1e-9)


def test_block_features_say_what_rounding_up_adds() -> None:
    space = residual_space()
    found = layers(space)
    features = build_layer_features(found, sampled(space, 40, seed=0))
    inner = found[1]  # from the first group to the second
    at = {g: inner.c_out.at(np.full(len(space.groups), float(g))) for g in (12, 15, 16, 17)}
    raw = features.mean.copy()
    names = [f"{side}{block}" for side in ("in", "out") for block in (0, *BLOCKS)]
    column = {
        name: list(np.flatnonzero(features.used)).index(i)
        for i, name in enumerate(names)
        if features.used[i]
    }

    def excess(block: int, width: int) -> float:
        position = names.index(f"out{block}")
        value = features.of(inner, at[16], at[width])[column[f"out{block}"]]
        return float(value * features.deviation[position] + raw[position])

    assert excess(16, 16) == pytest.approx(0)
    assert excess(16, 15) == pytest.approx(np.log(16 / 15))
    assert excess(16, 17) == pytest.approx(np.log(32 / 17))
    assert excess(8, 12) == pytest.approx(np.log(16 / 12))


def test_hats_share_a_count_between_the_knots_beside_it() -> None:
    space = residual_space()
    features = build_layer_features(layers(space), sampled(space, 40, seed=0))
    features = replace(features, knots=KNOTS)
    counts = np.array([4.0, 22.0, 68.0, 20000.0])
    of_input, of_output = np.split(features.hats_of(counts, counts[::-1]), 2, axis=-1)
    np.testing.assert_array_equal(of_input, of_output[::-1])
    np.testing.assert_allclose(of_input[:3] @ KNOTS, counts[:3])
    assert [dict(zip(KNOTS[row > 0], row[row > 0], strict=True)) for row in of_input] == [
        {4: 1},
        {20: 0.5, 24: 0.5},
        {64: 0.5, 72: 0.5},
        {KNOTS[-1]: 1},
    ]


@pytest.mark.parametrize("widest", [12, 30, 64, 200])
def test_every_count_up_to_the_widest_layer_has_its_hats(widest: int) -> None:
    space = residual_space((widest, widest, widest), 1)
    found = layers(space)
    full = np.full((1, len(space.groups)), widest)
    features = build_layer_features(found, full)
    assert features.knots[-2] < widest <= features.knots[-1]
    np.testing.assert_array_equal(features.knots, KNOTS[: len(features.knots)])
    below = np.arange(1.0, widest + 1)
    np.testing.assert_allclose(features.hats_of(below, below).sum(-1), 2)


@pytest.mark.parametrize("name", SPACES)
def test_log_macs_are_those_of_the_layers(name: str) -> None:
    space = SPACES[name]()
    widths = sampled(space, 20, seed=0)
    found = layers(space)
    got = np.exp(build_layer_features(found, widths).log_macs(widths))
    np.testing.assert_allclose(
        got, np.stack([layer.macs(widths.astype(float)) for layer in found], axis=1)
    )
