from __future__ import annotations

import pytest

from latency_service.core.units import parse_duration, parse_percent


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.2ms", 0.0012),
        ("800us", 0.0008),
        (" 90 s ", 90),
        ("10m", 600),
        ("1h", 3600),
        ("2e3µs", 2e-3),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


def test_a_number_without_a_unit_has_the_default_one() -> None:
    assert parse_duration("600", default_unit="s") == 600
    with pytest.raises(ValueError, match="is not a valid duration"):
        parse_duration("600")


@pytest.mark.parametrize("text", ["", "soon", "m", "-3s", "0s", "1e999s", "3 parsecs", "1.2.3s"])
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_duration(text)


def test_a_percentage_may_have_its_sign() -> None:
    assert parse_percent("3%") == parse_percent(" 3 ") == 3
    assert parse_percent("100%") == 100


@pytest.mark.parametrize("text", ["", "%", "low", "0%", "-3%", "101%", "nan", "inf"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a percentage"):
        parse_percent(text)
