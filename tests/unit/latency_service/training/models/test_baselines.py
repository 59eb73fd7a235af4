from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from latency_service.spaces.layers import layers, total_macs
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.models import baselines
from latency_service.training.models.mlp import fit_mlps
from tests.support.simulated import sampled, simulated_ms

Floats = np.ndarray


def kinds(space: SearchSpace, widths: Floats) -> dict[str, Callable[[Floats, Floats], Any]]:
    full = np.array(space.full_widths, dtype=float)
    return {
        "flops-line": lambda y, w: baselines.fit_flops_line(layers(space), widths, y, w),
        "kernel-ridge": lambda y, w: baselines.fit_kernel_ridge(
            full, 0 * full + 2, widths, y, w, seed=0
        ),
        "gaussian-process": lambda y, w: baselines.fit_gaussian_process(
            full, 0 * full + 2, widths, y, w
        ),
        "gradient-boosting": lambda y, w: baselines.fit_boosting(widths, y, w, 0),
        "lpnet-mlp": lambda y, w: fit_mlps(full, widths, y, w[None], seed=0)[0],
    }


NAMES = ["flops-line", "kernel-ridge", "gaussian-process", "gradient-boosting", "lpnet-mlp"]


@pytest.mark.parametrize("name", NAMES)
def test_each_learns_something(space: SearchSpace, name: str) -> None:
    widths = sampled(space, 120, seed=0)
    latency = simulated_ms(space, widths)
    weights = (np.arange(120) < 80).astype(float)
    model = kinds(space, widths)[name](latency, weights)
    off = np.abs(np.exp(model.log_latency(widths[80:])) / latency[80:] - 1)
    constant = np.abs(np.median(latency[:80]) / latency[80:] - 1)
    assert off.mean() < 0.6 * constant.mean()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_seen_does_not_matter(space: SearchSpace, name: str) -> None:
    widths = sampled(space, 40, seed=0)
    latency = simulated_ms(space, widths)
    weights = (np.arange(40) < 30).astype(float)
    fit = kinds(space, widths)[name]
    first = fit(latency, weights)
    second = fit(np.where(weights > 0, latency, 3 * latency), weights)
    np.testing.assert_allclose(first.log_latency(widths), second.log_latency(widths), atol=1e-6)


def test_the_line_is_exact_where_latency_is_a_line_on_flops(space: SearchSpace) -> None:
    widths = sampled(space, 30, seed=0)
    latency = 0.1 + 2e-8 * total_macs(space, widths)
    model = kinds(space, widths)["flops-line"](latency, np.ones(30))
    np.testing.assert_allclose(np.exp(model.log_latency(widths)), latency, rtol=1e-9)


def test_the_exported_process_is_scikit_learns_own(
    space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []

    class Process(baselines.GaussianProcessRegressor):  # type: ignore[misc]
        def fit(self, x: Floats, y: Floats) -> Any:
            kept.append(self)
            return super().fit(x, y)

    monkeypatch.setattr(baselines, "GaussianProcessRegressor", Process)
    widths = sampled(space, 50, seed=0)
    latency = simulated_ms(space, widths)
    model = kinds(space, widths)["gaussian-process"](latency, (np.arange(50) < 40).astype(float))
    logs = np.log(latency[:40])
    expected = (
        kept[0].predict(np.log(widths / np.array(space.full_widths))) * logs.std() + logs.mean()
    )
    np.testing.assert_allclose(model.log_latency(widths), expected, atol=1e-8)
