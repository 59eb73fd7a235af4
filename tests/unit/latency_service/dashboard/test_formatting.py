"""Numbers and times as pages write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from latency_service.core import units
from latency_service.dashboard import formatting

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (4.2163, 3, "4.22"),
        (0.04216, 3, "0.0422"),
        (1234.5, 3, "1,234"),
        (0.0, 3, "0"),
        (None, 3, "–"),
        (float("nan"), 3, "–"),
    ],
)
def test_numbers_have_significant_digits(value: float | None, digits: int, text: str) -> None:
    assert formatting.number(value, digits) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((4.2163, 4.1874, 4.2491), "4.216 [4.187, 4.249]"),
        ((4.2163, 3.9, 4.5), "4.22 [3.90, 4.50]"),
        ((812.3, 790.0, 834.0), "812 [790, 834]"),
        ((2.0, 2.0, 2.0), "2.000 [2.000, 2.000]"),
        ((2.0, None, None), "2.000 [not stated]"),
    ],
)
def test_an_interval_has_two_digits_and_its_value_the_same_place(
    values: tuple[float, float | None, float | None], text: str
) -> None:
    assert units.with_interval(*values) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (4.24, "4.2 s"),
        (59.4, "59 s"),
        (125, "2 min 5 s"),
        (7380, "2 h 3 min"),
        (None, "–"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=1), "just now"),
        (timedelta(seconds=40), "40 s ago"),
        (timedelta(minutes=3), "3 min ago"),
        (timedelta(hours=30), "30 h ago"),
        (timedelta(days=3), "3 days ago"),
        (-timedelta(minutes=5), "in 5 min"),
    ],
)
def test_ages(ago: timedelta, text: str) -> None:
    assert formatting.age(NOON - ago, NOON) == text


def test_long_names_are_cut_in_their_middle() -> None:
    assert formatting.middle("short") == "short"
    cut = formatting.middle("mobilenet_v2_first_try_of_may", 15)
    assert len(cut) == 15
    assert cut.startswith("mobile")
    assert cut.endswith("of_may")
