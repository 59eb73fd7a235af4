"""When two devices of one class differ, and which of several is the odd one."""

from __future__ import annotations

import pytest

from latency_service.campaigns.schemas import CampaignRequest
from latency_service.measurements.peers import difference, odd_ones
from latency_service.measurements.repository import Latency

Readings = dict[tuple[int, ...], Latency]


def readings(factor: float, *, spread: float = 0.01, count: int = 4) -> Readings:
    return {
        (width,): Latency(
            factor * width, factor * width * (1 - spread), factor * width * (1 + spread)
        )
        for width in range(1, count + 1)
    }


@pytest.mark.parametrize(
    ("factor", "spread", "is_beyond_noise"),
    [
        (1.0, 0.01, False),
        (1.09, 0.01, False),
        (1.15, 0.01, True),
        (0.8, 0.01, True),
        # their intervals overlap
        (1.15, 0.1, False),
    ],
)
def test_a_difference_is_beyond_noise(factor: float, spread: float, is_beyond_noise: bool) -> None:
    found = difference(readings(factor, spread=spread), readings(1.0, spread=spread))
    assert found is not None
    assert found.median_percent == pytest.approx(100 * (factor - 1))
    assert found.is_beyond_noise is is_beyond_noise
    assert found.mirrored().median_percent == pytest.approx(100 * (1 / factor - 1))


def test_one_bad_measurement_of_several_is_no_difference() -> None:
    own = readings(1.0) | {(1,): Latency(9.0, 8.9, 9.1)}
    found = difference(own, readings(1.0))
    assert found is not None
    assert not found.is_beyond_noise


def test_too_few_architectures_tell_nothing() -> None:
    assert difference(readings(2.0, count=2), readings(1.0)) is None


def pairs(differing: str, agreeing: str) -> dict[tuple[str, str], bool]:
    """``"ab ac"``: a differs from b and c."""
    return {
        pair: differs
        for text, differs in ((differing, True), (agreeing, False))
        for word in text.split()
        for pair in ((word[0], word[1]), (word[1], word[0]))
    }


@pytest.mark.parametrize(
    ("differing", "agreeing", "odd"),
    [
        ("ab", "", {}),
        ("ab ac", "bc", {"a": "b"}),
        # nobody agrees with anybody
        ("ab ac bc", "", {}),
        # two camps
        ("ac ad bc bd", "ab cd", {}),
        ("ab ac", "bc ad ae af", {}),
    ],
)
def test_the_odd_one_differs_from_others_that_agree(
    differing: str, agreeing: str, odd: dict[str, str]
) -> None:
    assert odd_ones(pairs(differing, agreeing)) == odd


@pytest.mark.parametrize(
    ("fields", "repeated"),
    [
        ({}, 6),
        ({"count": 20}, 3),
        ({"count": 2000}, 12),
        ({"peer_repeats": 0}, 0),
        ({"purpose": "measure", "widths": [[8, 8]]}, 0),
        ({"peer_repeats": 64, "protocol": {"max_rounds": 3000}}, 20),
    ],
)
def test_a_twentieth_is_repeated_by_a_second_device(
    fields: dict[str, object], repeated: int
) -> None:
    body = {"space_id": "s", "device": "board", **fields}
    assert CampaignRequest.model_validate(body).resolved_peer_repeats() == repeated
