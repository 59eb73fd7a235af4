from __future__ import annotations

import numpy as np
import pytest

from latency_service.measurements.schemas import Round
from latency_service.measurements.shares import share_of_reference


def visit(latency_ms: float, reference_ms: float | None, disturbed: str | None = None) -> Round:
    both = None if reference_ms is None else (reference_ms, reference_ms)
    return Round(
        at_seconds=0.0,
        latency_ms=latency_ms,
        runs=3,
        before_ms=[0.1],
        after_ms=[0.1],
        reference_ms=both,
        disturbed=disturbed,
    )


def test_what_slows_both_leaves_the_share_as_it_is() -> None:
    rng = np.random.default_rng(1)
    rounds = [
        visit(3.0 * slow * rng.normal(1, 0.005), 4.0 * slow) for slow in rng.uniform(1, 2, size=60)
    ]
    found = share_of_reference(rounds)
    assert found is not None
    assert found.share == pytest.approx(0.75, rel=0.003)
    assert found.lower < 0.75 < found.upper
    assert found.upper - found.lower < 0.02


def test_worthless_rounds_are_left_out_where_others_are_there() -> None:
    good = [visit(1.0, 2.0)] * 6
    bad = [visit(9.0, 2.0, "stolen")] * 20
    found = share_of_reference(good + bad)
    assert found is not None
    assert found.share == pytest.approx(0.5)
    only = share_of_reference(bad)
    assert only is not None
    assert only.share == pytest.approx(4.5)


def test_no_reference_no_share() -> None:
    assert share_of_reference([visit(1.0, None)] * 9) is None
