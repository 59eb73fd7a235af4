"""One trained predictor for all the tests that look at one."""

from __future__ import annotations

import numpy as np
import pytest

from latency_service.spaces.slicing import SearchSpace
from latency_service.training.pipeline import Trained, TrainingSet, train
from tests.support.simulated import lattice_of, residual_space, sampled, simulated_ms
from tests.support.training_sets import NOISE


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return residual_space()


@pytest.fixture(scope="session")
def training_set(space: SearchSpace) -> TrainingSet:
    """60 noisy measurements, ten of them twice."""
    widths = sampled(space, 60, seed=1)
    widths = np.concatenate([widths, widths[:10]])
    noise = np.exp(NOISE * np.random.default_rng(2).standard_normal(len(widths)))
    return TrainingSet(
        space=space,
        fingerprint="f" * 64,
        measurement_ids=[f"m{i}" for i in range(len(widths))],
        widths=widths,
        latency_ms=simulated_ms(space, widths) * noise,
        half_width=np.full(len(widths), 1.96 * NOISE),
        lattice=lattice_of(space),
        seed=7,
    )


@pytest.fixture(scope="session")
def trained(training_set: TrainingSet) -> Trained:
    return train(training_set)
