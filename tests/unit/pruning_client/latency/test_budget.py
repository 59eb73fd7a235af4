from __future__ import annotations

import pytest

from pruning_client.errors import UsageError
from pruning_client.latency.budget import budget_text, parse_budget


@pytest.mark.parametrize(
    ("given", "ms"),
    [
        ("1.2ms", 1.2),
        ("800us", 0.8),
        ("800 µs", 0.8),
        ("0.0012s", 1.2),
        (".5 ms", 0.5),
        (2, 2.0),
        (0.7, 0.7),
    ],
)
def test_durations(given: float | str, ms: float) -> None:
    assert parse_budget(given).in_ms(dense_ms=99.0) == pytest.approx(ms)
    assert parse_budget(budget_text(given)) == parse_budget(given)


def test_share_of_the_dense_latency() -> None:
    assert parse_budget("60%").in_ms(dense_ms=2.0) == pytest.approx(1.2)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "fast",
        "1.2",
        "1.2 parsecs",
        "-1ms",
        "ms",
        "1e999ms",
        "0ms",
        "0%",
        0,
        -1.0,
        float("nan"),
        True,
    ],
)
def test_no_duration(given: float | str) -> None:
    with pytest.raises(UsageError, match=r"budget|duration") as caught:
        parse_budget(given)
    assert "1.2ms" in caught.value.cure
    assert caught.value.exit_code == 2
