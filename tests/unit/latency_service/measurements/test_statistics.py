from __future__ import annotations

import re
import time
from collections.abc import Sequence
from math import exp, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from latency_service.measurements.correction import correct
from latency_service.measurements.schemas import Calibration, Protocol, Round, Summary
from latency_service.measurements.statistics import (
    at_one_reference,
    compare,
    mann_whitney,
    repeat_difference,
    summarise,
)

FLOOR = [0.1, 0.35, 0.9]
CALIBRATION = Calibration(canaries=["tiny", "half", "full"], floor_ms=FLOOR)
PROTOCOL = Protocol(min_rounds=9)
latencies = st.floats(0.02, 50.0)
noise = st.lists(st.floats(-0.002, 0.002), min_size=9, max_size=60)


def visit(
    latency_ms: float,
    *,
    canaries: float | Sequence[float] = 1.0,
    disturbed: str | None = None,
    contenders: int = 0,
    reference_ms: float | None = None,
) -> Round:
    """A round whose canaries are slowed by `canaries`, one factor for all of them or one for
    each.
    """
    factors = canaries if isinstance(canaries, Sequence) else [canaries] * len(FLOOR)
    reading = [factor * floor for factor, floor in zip(factors, FLOOR, strict=True)]
    return Round(
        at_seconds=0.0,
        latency_ms=latency_ms,
        runs=5,
        before_ms=reading,
        after_ms=reading,
        disturbed=disturbed,
        contenders=contenders,
        reference_ms=None if reference_ms is None else (reference_ms, reference_ms),
    )


def noisy(
    latency_ms: float,
    count: int = 30,
    *,
    spread: float = 0.002,
    seed: int = 0,
    slowed: float = 1.0,
) -> list[Round]:
    generator = np.random.default_rng(seed)
    return [
        visit(latency_ms * slowed * exp(spread * error), canaries=slowed)
        for error in generator.standard_normal(count)
    ]


@settings(deadline=None)
@given(latencies, noise)
def test_quiet_rounds_give_their_median(latency: float, errors: list[float]) -> None:
    found = summarise([visit(latency * exp(error)) for error in errors], CALIBRATION, PROTOCOL)
    assert found.latency_ms == pytest.approx(latency, rel=0.0021)
    assert found.lower_ms <= found.latency_ms <= found.upper_ms
    assert (found.quiet_share, found.verdict, found.reason) == (1.0, "ok", None)


@settings(deadline=None)
@given(latencies, st.floats(1.12, 4.0), noise)
def test_inflation_that_canaries_and_network_share_is_divided_out(
    latency: float, factor: float, errors: list[float]
) -> None:
    rounds = [visit(latency * factor * exp(error), canaries=factor) for error in errors]
    found = summarise(rounds, CALIBRATION, PROTOCOL)
    assert found.latency_ms == pytest.approx(latency, rel=0.005)
    assert found.naive_ms == pytest.approx(latency * factor, rel=0.005)
    assert found.quiet_share == 0


@settings(deadline=None)
@given(st.floats(1.001, 1.09))
def test_small_inflation_is_doubted(factor: float) -> None:
    """Divided out in proportion to itself: never more than there is, never the wrong way."""
    corrected = correct([visit(0.5 * factor, canaries=factor)], CALIBRATION)
    assert corrected.inflation[0] == pytest.approx(log(factor), rel=1e-6)
    assert 0 < corrected.removed[0] < corrected.inflation[0]
    assert corrected.removed[0] == pytest.approx(log(factor) ** 2 / 0.1, rel=1e-6)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(1.2, 2.5), st.floats(1.2, 2.5))
def test_inflation_between_two_canaries_is_log_linear(
    place: float, low: float, high: float
) -> None:
    true = exp(log(FLOOR[0]) + place * (log(FLOOR[1]) - log(FLOOR[0])))
    slowed = true * low ** (1 - place) * high**place
    if FLOOR[0] * low < FLOOR[1] * high:
        corrected = correct([visit(slowed, canaries=[low, high, high])], CALIBRATION)
        assert corrected.latency_ms[0] == pytest.approx(true, rel=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(latencies, st.floats(0.9, 3.0), st.booleans()), min_size=1, max_size=40))
def test_the_same_rounds_give_the_same_summary(drawn: list[tuple[float, float, bool]]) -> None:
    rounds = [
        visit(ms, canaries=factor, disturbed="stolen" if bad else None) for ms, factor, bad in drawn
    ]
    found = summarise(rounds, CALIBRATION, PROTOCOL)
    assert found == summarise(rounds, CALIBRATION, PROTOCOL)
    assert 0 < found.lower_ms <= found.latency_ms <= found.upper_ms
    assert (found.verdict == "ok") == (found.reason is None)


@settings(deadline=None)
@given(st.floats(0.1, 10.0), st.integers(9, 30), st.integers(1, 30))
def test_quarantined_rounds_do_not_count(factor: float, clean: int, quarantined: int) -> None:
    good = noisy(0.5, clean)
    bad = [visit(0.5 * factor, disturbed="the hypervisor took 20 ms")] * quarantined
    found, alone = (summarise(rounds, CALIBRATION, PROTOCOL) for rounds in ([*bad, *good], good))
    assert (found.latency_ms, found.lower_ms, found.upper_ms, found.verdict) == (
        alone.latency_ms,
        alone.lower_ms,
        alone.upper_ms,
        alone.verdict,
    )


@pytest.mark.parametrize(
    "evidence", [{"contenders": 2}, {"canaries": 1.2}, {"canaries": [1.0, 1.0, 1.2]}]
)
def test_rounds_with_evidence_against_them_wait_until_they_are_needed(
    evidence: dict[str, Any],
) -> None:
    """They are not used beside enough others; alone they are, and are no reason for a bad
    verdict.
    """
    suspect = [visit(0.5 * exp(0.001 * i), **evidence) for i in range(20)]
    good = noisy(0.6, 9)
    both, alone, none = (
        summarise(rounds, CALIBRATION, PROTOCOL) for rounds in ([*suspect, *good], suspect, good)
    )
    assert both.latency_ms == none.latency_ms
    assert both.quarantined_share == pytest.approx(20 / 29)
    assert (alone.quarantined_share, none.quarantined_share) == (1.0, 0.0)
    assert alone.rounds_used == 7
    assert "worthless" not in (alone.reason or "")


def test_the_least_inflated_third_speaks() -> None:
    rounds = [visit(0.5)] * 10 + [visit(0.5 * 1.02, canaries=1.05)] * 20
    found = summarise(rounds, CALIBRATION, PROTOCOL)
    assert (found.latency_ms, found.rounds_used) == (pytest.approx(0.5), 10)
    assert found.quiet_share == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("rounds", "words", "trainable"),
    [
        ([visit(0.5, disturbed="stolen")] * 20, "worthless, mostly since stolen", False),
        ([visit(0.5, canaries=0.8)] * 20, "2[0-9]% faster", False),
        ([visit(0.5)] * 8, "8 rounds measured, 9 asked for", False),
        (noisy(0.5, 20, spread=0.2), r"interval is ±1\d\.\d%, ±1.0% asked for$", False),
        (noisy(0.5, 20, spread=0.1), r"interval is ±[1-9]\.\d%, ±1.0% asked for$", True),
        (
            noisy(0.5, 20, spread=0.05, slowed=1.2),
            r"interval is ±[1-9]\.\d%.* slowed by [12][0-9]% at",
            True,
        ),
        (
            noisy(0.5, 20, spread=0.2, slowed=2.0),
            "canaries slowed by 1?[0-9]+% at their quietest",
            False,
        ),
    ],
    ids=["quarantined", "faster", "few", "too wide", "wide", "contended", "much contended"],
)
def test_why_a_measurement_is_unstable(rounds: list[Round], words: str, trainable: bool) -> None:
    """One that is only less precise than asked for can still be trained on."""
    found = summarise(rounds, CALIBRATION, PROTOCOL)
    assert (found.verdict, found.trainable) == ("unstable", trainable)
    assert found.reason is not None
    assert re.search(words, found.reason), found.reason


def test_a_network_unlike_the_canaries_is_inside_its_interval() -> None:
    """Slowed by a quarter where the canaries are by less: the correction leaves some 6 % in."""
    contended = summarise([visit(0.5 * 1.25, canaries=1.18)] * 40, CALIBRATION, PROTOCOL)
    assert contended.latency_ms > 1.05 * 0.5
    assert contended.lower_ms <= 0.5
    quiet = summarise([visit(0.5 * 1.03, canaries=1.03)] * 40, CALIBRATION, PROTOCOL)
    assert quiet.verdict == "ok"


def test_the_protocol_says_how_precise() -> None:
    rounds = noisy(0.5, 20, spread=0.03)
    strict, loose = (
        summarise(rounds, CALIBRATION, Protocol(half_width=width, min_rounds=9)).verdict
        for width in (0.005, 0.1)
    )
    assert (strict, loose) == ("unstable", "ok")


def test_more_rounds_narrow_the_interval() -> None:
    def width(count: int) -> float:
        found = [
            summarise(noisy(0.5, count, spread=0.05, seed=seed), CALIBRATION, PROTOCOL)
            for seed in range(20)
        ]
        return float(np.mean([each.upper_ms - each.lower_ms for each in found]))

    assert width(200) < 0.5 * width(9)


def test_the_interval_holds_what_it_says() -> None:
    """Of 200 measurements of .5 ms at least 90 % have it in their 95 % interval."""
    found = [
        summarise(noisy(0.5, 15, spread=0.01, seed=seed), CALIBRATION, PROTOCOL)
        for seed in range(200)
    ]
    assert sum(each.lower_ms <= 0.5 <= each.upper_ms for each in found) >= 180


def test_rounds_that_do_not_fit_the_calibration() -> None:
    odd = visit(0.5).model_copy(update={"after_ms": [0.1]})
    with pytest.raises(ValueError, match="3 canaries"):
        summarise([odd], CALIBRATION, PROTOCOL)
    with pytest.raises(ValueError, match="no rounds"):
        summarise([], CALIBRATION, PROTOCOL)


def test_thirty_rounds_take_less_than_five_milliseconds() -> None:
    rounds = noisy(0.5, 30)
    spent = []
    for _ in range(30):
        began = time.perf_counter()
        summarise(rounds, CALIBRATION, PROTOCOL)
        spent.append(time.perf_counter() - began)
    assert min(spent) < 0.005


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(0.97, "faster"), (1.03, "slower"), (1.0, "cannot tell"), (1.004, "cannot tell")],
)
def test_compares_two_measurements(ratio: float, verdict: str) -> None:
    a = noisy(0.5 * ratio, seed=1)
    b = noisy(0.5, seed=2, slowed=1.5)
    assert compare(a, b, CALIBRATION) == verdict


def test_a_few_noisy_rounds_tell_nothing() -> None:
    a = noisy(0.52, 5, spread=0.3, seed=1)
    b = noisy(0.5, 5, spread=0.3, seed=2)
    assert compare(a, b, CALIBRATION) == "cannot tell"


@settings(deadline=None)
@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=30),
    st.lists(st.floats(-1, 1), min_size=1, max_size=30),
)
def test_mann_whitney_is_a_symmetric_probability(x: list[float], y: list[float]) -> None:
    value = mann_whitney(np.array(x), np.array(y))
    assert 0 <= value <= 1
    assert value == pytest.approx(mann_whitney(np.array(y), np.array(x)))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=30),
    st.lists(st.integers(0, 9), min_size=2, max_size=30),
)
def test_mann_whitney_agrees_with_scipy(x: list[int], y: list[int]) -> None:
    if len({*x, *y}) > 1:
        expected = mannwhitneyu(x, y, method="asymptotic").pvalue
        assert mann_whitney(np.array(x, float), np.array(y, float)) == pytest.approx(expected)


def test_repeat_difference_is_a_median_in_per_cent() -> None:
    assert repeat_difference([(1.0, 1.0), (0.99, 1.01), (1.0, 3.0)]) == pytest.approx(2.0)


@pytest.mark.parametrize("pairs", [[], [(1.0, 0.0)], [(1.0, -1.0)]])
def test_repeat_difference_of_nothing(pairs: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        repeat_difference(pairs)


def with_reference(reference_ms: float) -> Calibration:
    return CALIBRATION.model_copy(update={"reference_ms": reference_ms})


@settings(deadline=None)
@given(st.floats(1.3, 50.0), st.floats(1.2, 2.0), st.floats(1.2, 2.0))
def test_a_reference_is_one_more_canary(floor_ms: float, canaries: float, own: float) -> None:
    """A network as slow as the reference is slowed as the reference is, whatever canaries say."""
    if FLOOR[-1] * canaries >= floor_ms * own:
        return
    seen = visit(floor_ms * own, canaries=canaries, reference_ms=floor_ms * own)
    corrected = correct([seen], with_reference(floor_ms))
    assert corrected.latency_ms[0] == pytest.approx(floor_ms, rel=1e-6)


@pytest.mark.parametrize(("place", "removed"), [(1.0, 0.02), (0.5, 0.01), (0.0, 0.004)])
def test_what_the_reference_shows_is_not_doubted(place: float, removed: float) -> None:
    """Inflation of 2 %: divided out in full at the reference, by a fifth at the nearest canary."""
    nearest_ms = FLOOR[0]
    reference_ms = nearest_ms / 0.6
    slowed = exp(0.02)
    true_ms = nearest_ms * (reference_ms / nearest_ms) ** place
    seen = visit(
        slowed * true_ms,
        canaries=slowed,
        reference_ms=slowed * reference_ms,
    )
    corrected = correct([seen], with_reference(reference_ms))
    assert corrected.inflation[0] == pytest.approx(0.02, abs=1e-6)
    assert corrected.likeness[0] == pytest.approx(place, abs=1e-6)
    assert corrected.removed[0] == pytest.approx(removed, abs=1e-6)


def test_canaries_as_slow_as_the_reference_do_not_count_beside_it() -> None:
    seen = visit(0.95 * 1.3, canaries=[1.3, 1.3, 1.9], reference_ms=1.0 * 1.3)
    assert correct([seen], with_reference(1.0)).latency_ms[0] == pytest.approx(0.95, rel=1e-6)


def test_rounds_without_a_reference_are_corrected_by_canaries() -> None:
    rounds = [visit(0.5 * 1.3, canaries=1.3)]
    with_and_without = [correct(rounds, one) for one in (with_reference(1.0), CALIBRATION)]
    first, second = (one.latency_ms[0] for one in with_and_without)
    assert first == second


def test_latencies_follow_the_reference_by_their_elasticity() -> None:
    """What was measured while the quiet latency was thought to be 2 ms, now 1.9 ms."""
    found = at_one_reference(
        [corrected_by(2.0, 1.0), corrected_by(2.0, 0.0), corrected_by(1.9, 1.0)]
    )
    assert found == pytest.approx([0.95, 1.0, 1.0])
    assert at_one_reference([corrected_by(None, None)]) == pytest.approx([1.0])


def corrected_by(reference_ms: float | None, elasticity: float | None) -> Summary:
    """A latency of 1 ms."""
    summary = summarise([visit(1.0)] * 9, CALIBRATION, PROTOCOL)
    update = {"reference_ms": reference_ms, "reference_elasticity": elasticity, "latency_ms": 1.0}
    return summary.model_copy(update=update)


@pytest.mark.parametrize(("latency_ms", "elasticity"), [(4.0, 1.0), (0.35, 0.0), (1.9, 0.5)])
def test_the_elasticity_says_who_corrects(latency_ms: float, elasticity: float) -> None:
    """A network as slow as the reference, one as slow as a canary, and one between the two."""
    slowed = [visit(latency_ms * 1.3, canaries=1.3, reference_ms=4.0 * 1.3) for _ in range(20)]
    calibration = CALIBRATION.model_copy(update={"reference_ms": 4.0})
    found = summarise(slowed, calibration, PROTOCOL).reference_elasticity
    assert found == pytest.approx(elasticity, abs=0.02)
