from __future__ import annotations

import numpy as np
import pytest

from latency_service.measurements.schemas import Calibration, Protocol, Round
from latency_service.measurements.shares import Share, share_of_reference
from latency_service.measurements.statistics import summarise

CALIBRATION = Calibration(canaries=["tiny"], floor_ms=[0.1], reference_ms=4.0)


def visit(latency_ms: float, reference_ms: float | None, canary_ms: float = 0.1) -> Round:
    both = None if reference_ms is None else (reference_ms, reference_ms)
    return Round(
        at_seconds=0.0,
        latency_ms=latency_ms,
        runs=3,
        before_ms=[canary_ms],
        after_ms=[canary_ms],
        reference_ms=both,
    )


def share(rounds: list[Round]) -> Share:
    found = share_of_reference(summarise(rounds, CALIBRATION, Protocol()))
    assert found is not None
    return found


def test_what_slows_both_leaves_the_share_as_it_is() -> None:
    rng = np.random.default_rng(1)
    found = share(
        [
            visit(3.0 * slow * rng.normal(1, 0.005), 4.0 * slow, 0.1 * slow)
            for slow in rng.uniform(1, 2, size=60)
        ]
    )
    assert found.share == pytest.approx(0.75, rel=0.01)
    assert found.lower < 0.75 < found.upper


def test_what_slows_the_reference_alone_leaves_it_too() -> None:
    """A network that misses its caches, beside a pruning that fits into them: in most rounds
    neighbours slow the former.
    """
    rng = np.random.default_rng(1)
    slow = np.where(rng.random(60) < 0.8, 1.12, 1.0)
    found = share([visit(0.4 * rng.normal(1, 0.003), 4.0 * one) for one in slow])
    assert found.share == pytest.approx(0.1, rel=0.01)
    assert found.lower < 0.1 < found.upper


def test_the_interval_is_no_narrower_than_one_process_knows_the_reference() -> None:
    found = share([visit(2.0, 4.0)] * 30)
    assert found.share == pytest.approx(0.5)
    assert found.upper - found.lower > 0.5 * 2 * 0.015


def test_no_reference_no_share() -> None:
    alone = CALIBRATION.model_copy(update={"reference_ms": None})
    assert share_of_reference(summarise([visit(1.0, None)] * 9, alone, Protocol())) is None
