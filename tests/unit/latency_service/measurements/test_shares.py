from __future__ import annotations

import numpy as np
import pytest

from latency_service.measurements.schemas import Calibration, Protocol, Round
from latency_service.measurements.shares import (
    SHARE_HALF_WIDTH,
    Share,
    share_in_rounds,
    share_of_reference,
)
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
    found = share_of_reference(summarise(rounds, CALIBRATION, Protocol()), rounds)
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
    assert found.share == pytest.approx(0.75, rel=0.003)
    assert found.lower < 0.75 < found.upper
    # one process tells a share within 1 %, and the rounds add their scatter
    assert 2 * 0.75 * SHARE_HALF_WIDTH < found.upper - found.lower < 0.03


def test_what_slows_the_reference_alone_leaves_it_too() -> None:
    """A network that misses its caches, beside a pruning that fits into them: in most rounds
    neighbours slow the former.
    """
    rng = np.random.default_rng(1)
    slow = np.where(rng.random(60) < 0.8, 1.12, 1.0)
    found = share([visit(0.4 * rng.normal(1, 0.003), 4.0 * one) for one in slow])
    assert found.share == pytest.approx(0.1, rel=0.01)
    assert found.lower < 0.1 < found.upper


def test_the_interval_is_no_narrower_than_what_one_process_can_tell() -> None:
    found = share([visit(2.0, 4.0)] * 30)
    assert found.share == pytest.approx(0.5)
    assert found.upper - found.lower > 0.5 * 2 * SHARE_HALF_WIDTH


def test_no_reference_no_share() -> None:
    alone = CALIBRATION.model_copy(update={"reference_ms": None})
    rounds = [visit(1.0, None)] * 9
    assert share_of_reference(summarise(rounds, alone, Protocol()), rounds) is None
    assert share_in_rounds(rounds) is None


def test_an_hour_in_which_both_are_slower_does_not_halve_its_own_share() -> None:
    """The reference's quiet latency is of a better hour: half of what that makes is taken back."""
    rounds = [visit(2.0 * 1.04, 4.0 * 1.04, canary_ms=0.1)] * 30
    quiet = summarise(rounds, CALIBRATION, Protocol()).latency_ms / 4.0
    assert share_in_rounds(rounds) == pytest.approx(0.5)
    assert share(rounds).share == pytest.approx(np.sqrt(quiet * 0.5))


def test_worthless_rounds_are_left_out_where_others_are_there() -> None:
    good = [visit(1.0, 2.0)] * 6
    bad = [visit(0.5, 2.0).model_copy(update={"disturbed": "stolen"})] * 20
    assert share_in_rounds(good + bad) == pytest.approx(0.5)
    assert share_in_rounds(bad) == pytest.approx(0.25)
