"""Which changes of speed cost a device its trust."""

from __future__ import annotations

import pytest

from latency_service.devices.drift import why_not_trusted

KNOWN = [0.1, 0.4, 0.9]


@pytest.mark.parametrize("factors", [(1.0, 1.0, 1.0), (1.09, 1.3, 1.2), (0.95, 1.2, 1.0)])
def test_readings_that_move_unequally_are_no_drift(factors: tuple[float, ...]) -> None:
    assert why_not_trusted(KNOWN, scaled(factors)) is None


@pytest.mark.parametrize("factor", [1.11, 1.5, 30.0])
def test_slower_canaries_are_a_sick_device(factor: float) -> None:
    reason = why_not_trusted(KNOWN, scaled([factor] * 3))
    assert reason is not None
    assert f"{KNOWN[0] * factor:.3g} / " in reason
    assert "0.1 / 0.4 / 0.9 ms" in reason


def test_somewhat_faster_canaries_were_calibrated_badly_before() -> None:
    assert why_not_trusted(KNOWN, scaled([0.7] * 3)) is None


def test_much_faster_canaries_are_a_lie() -> None:
    assert why_not_trusted(KNOWN, scaled([0.4, 0.45, 0.49])) is not None


def scaled(factors: tuple[float, ...] | list[float]) -> list[float]:
    return [ms * factor for ms, factor in zip(KNOWN, factors, strict=True)]
