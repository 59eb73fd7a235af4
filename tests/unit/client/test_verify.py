"""The closed loop against a device whose truth differs from the predictor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pruning_client.config import VerifyConfig
from pruning_client.errors import BudgetError
from pruning_client.latency import Predictor
from pruning_client.verify import Correction, Measured, Widths
from tests.unit.client import analytic


def measured(ms: float) -> Measured:
    return Measured(
        latency_ms=ms, lower_ms=0.99 * ms, upper_ms=1.01 * ms, verdict="ok", measurement_id="m", target_id="t",
        model_sha256="0" * 64,
    )  # fmt: skip


class Device:
    """Measures what the predictor says, times a factor that depends on the widths."""

    def __init__(self, predictor: Predictor, factor: Callable[[Widths], float]) -> None:
        self.predictor, self.factor, self.asked = predictor, factor, list[Widths]()

    def __call__(self, widths: Widths) -> Measured:
        self.asked.append(widths)
        return measured(self.factor(widths) * self.predictor.one_ms(widths))


@pytest.fixture
def fine() -> Predictor:
    """Latency is affine in three groups, with a fine lattice."""
    sidecar = analytic.sidecar_of([64, 64, 64], [list(range(4, 65, 2))] * 3)
    return Predictor(
        analytic.view(sidecar), analytic.LocalSource(analytic.quadratic(0.1, [0.004, 0.006, 0.008], np.zeros((3, 3))))
    )


def correction(predictor: Predictor, budget_ms: float) -> Correction:
    rng = np.random.default_rng(0)
    scores = [rng.random(width) + 0.1 for width in predictor.sidecar.full_widths]
    return Correction(predictor=predictor, scores=scores, budget_ms=budget_ms, config=VerifyConfig())


@pytest.mark.parametrize("factor", [0.85, 0.97, 1.0, 1.04, 1.2])
def test_a_wrong_predictor_is_corrected(fine: Predictor, factor: float) -> None:
    loop, device = correction(fine, 0.7), Device(fine, lambda _w: factor)
    widths = loop.settle([32, 32, 32], device)
    latency = loop.seen[widths].latency_ms
    assert 0.95 * 0.7 <= latency <= 0.7
    assert len(device.asked) <= 3
    assert [entry.stage for entry in loop.log] == ["structure"] * len(device.asked)


def test_what_is_good_at_once_is_measured_once(fine: Predictor) -> None:
    loop, device = correction(fine, 0.7), Device(fine, lambda _w: 1.0)
    assert loop.settle([32, 32, 32], device) == (32, 32, 32)
    assert len(device.asked) == 1


def test_a_noisy_device_ends_within_the_rounds_and_the_budget(fine: Predictor) -> None:
    rng = np.random.default_rng(1)
    loop, device = correction(fine, 0.7), Device(fine, lambda _w: 1.0 + 0.05 * rng.standard_normal())
    widths = loop.settle([40, 40, 40], device)
    assert len(device.asked) <= VerifyConfig().structure_rounds
    assert loop.seen[widths].latency_ms <= 0.7 or widths not in device.asked


def test_slack_is_spent(fine: Predictor) -> None:
    loop = correction(fine, 0.7)
    widths = loop.settle([8, 8, 8], Device(fine, lambda _w: 1.0))
    assert loop.seen[widths].latency_ms > 0.65


def test_after_a_miss_it_always_gets_narrower(fine: Predictor) -> None:
    loop = correction(fine, 0.7)
    loop.note("delivered", (32, 32, 32), measured(0.701))
    after = loop.next((32, 32, 32))
    assert fine.one_ms(after) < fine.one_ms([32, 32, 32])


def test_out_of_reach_as_measured(fine: Predictor) -> None:
    with pytest.raises(BudgetError, match=r"A budget of 0\.2 ms .* as measured"):
        correction(fine, 0.2).settle([8, 8, 8], Device(fine, lambda _w: 3.0))
