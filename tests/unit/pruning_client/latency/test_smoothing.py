from __future__ import annotations

import numpy as np
import pytest
import torch

from latency_service.core.arrays import Floats32
from pruning_client.latency.predictor import LatencyEstimate, Predictor
from pruning_client.latency.smoothing import SecantSource, with_secant_gradient

LATTICE = [[4, 8, 12, 16, 20, 24], [2, 6, 10]]


class Stairs:
    """Latency of a processor that computes channels by fours; its own slope is zero nearly
    everywhere.
    """

    def evaluate(self, widths: Floats32) -> LatencyEstimate:
        latency = (4 * np.ceil(widths / 4) @ np.array([0.01, 0.05])).astype(np.float32)
        return LatencyEstimate(
            latency_ms=latency,
            gradient=np.zeros_like(widths),
            lower_ms=0.9 * latency,
            upper_ms=1.1 * latency,
        )


def test_slopes_see_past_the_steps() -> None:
    answer = SecantSource(Stairs(), LATTICE).evaluate(np.array([[16, 6], [13.5, 10]], np.float32))
    np.testing.assert_allclose(answer.gradient, [[0.01, 0.05], [0.01, 0.05]], rtol=1e-5)


def test_the_value_is_that_of_the_next_wider_lattice_width() -> None:
    answer = SecantSource(Stairs(), LATTICE).evaluate(
        np.array([[13.5, 6], [16, 6], [24, 10]], np.float32)
    )
    np.testing.assert_allclose(answer.latency_ms, [0.56, 0.56, 0.84], rtol=1e-5)
    np.testing.assert_allclose(answer.lower_ms, 0.9 * answer.latency_ms, rtol=1e-5)


def test_a_group_with_one_width_has_no_slope() -> None:
    answer = SecantSource(Stairs(), [[8], [2, 6]]).evaluate(np.array([[8, 6]], np.float32))
    assert answer.gradient[0, 0] == 0
    assert answer.gradient[0, 1] > 0


def test_through_autograd(predictor: Predictor) -> None:
    widths = torch.tensor([16.0, 8.0], requires_grad=True)
    latency = with_secant_gradient(predictor)(widths)
    latency.backward()
    assert float(latency.detach()) == pytest.approx(predictor.one_ms([16, 8]), rel=1e-5)
    assert widths.grad is not None
    rise = predictor.one_ms([16, 16]) - predictor.one_ms([16, 4])
    assert float(widths.grad[1]) == pytest.approx(rise / 12, rel=1e-3)
