"""The bars of the benchmark that compares the present state with an earlier one."""

from __future__ import annotations

from typing import Any

from benchmarks.cases import wait


def _case(piece: str, before: float | None, now: float, **more: Any) -> dict[str, Any]:
    kind = next(kind for kind in ("make-space", "demo", "train", "job") if piece.startswith(kind))
    figures = {"over_percent": -0.9, "accuracy": 97.0, "mape": 1.0, "peak_bytes": 2e9}
    return {
        "piece": piece,
        "kind": kind,
        "before": None if before is None else {**figures, "seconds": before},
        "now": {**figures, "seconds": now, **more},
    }


FAST = [
    _case("make-space-resnet50", 10, 4),
    _case("make-space-vgg16_bn", 10, 4),
    _case("train-6", None, 7.9),
    _case("train-0", None, 2.9),
    _case("demo-0", 500, 240),
    _case("job-80%", 1000, 390),
]
SLOW = [
    _case("make-space-resnet50", 10, 1),
    _case("make-space-vgg16_bn", 10, 7.5),
    _case("train-6", None, 8.1),
    _case("train-0", None, 3.1),
    _case("demo-0", 500, 260, over_percent=0.1, accuracy=95.9, mape=2.1),
    _case("job-80%", 1000, 410, peak_bytes=3.1e9),
]


def test_half_the_wait_holds_every_bar() -> None:
    assert all(bar.holds for bar in wait._bars(FAST))


def test_each_bar_can_fail() -> None:
    assert not any(bar.holds for bar in wait._bars(SLOW))
    assert len(wait._bars(SLOW)) == len(wait._bars(FAST)) == 10


def test_what_has_not_been_run_has_no_bars() -> None:
    assert wait._bars([]) == []
    assert wait._line(FAST[2]) == "train-6: 7.9 s"
    assert wait._line(FAST[4]) == "demo-0: 500.0 s before, 240.0 s now, 0.48 times"
