from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from latency_service.core.transport import ApiError, Unreachable
from latency_service.core.waiting import polled


class Clock:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def looks(*results: Any) -> Callable[[], Any]:
    """A look that gives these results one by one; exceptions are raised."""
    rest: Iterator[Any] = iter(results)

    def look() -> Any:
        result = next(rest)
        if isinstance(result, Exception):
            raise result
        return result

    return look


def gone() -> Unreachable:
    return Unreachable("http://board", OSError("refused"))


def test_results_come_with_pauses_between_them() -> None:
    clock = Clock()
    seen = []
    for result in polled(looks(1, 2, 3), pause_seconds=5, sleep=clock.sleep, clock=clock):
        seen.append((clock.now, result))
        if result == 3:
            break
    assert seen == [(0, 1), (5, 2), (10, 3)]


def test_the_time_is_limited() -> None:
    clock = Clock()
    look = looks(*range(10))
    with pytest.raises(TimeoutError):
        list(polled(look, pause_seconds=5, timeout_seconds=12, sleep=clock.sleep, clock=clock))
    assert clock.now == 15


def test_a_service_that_has_answered_may_be_away_for_a_while() -> None:
    clock = Clock()
    look = looks("up", gone(), gone(), "up again", gone(), gone(), gone(), gone())
    views = polled(look, pause_seconds=5, patience_seconds=12, sleep=clock.sleep, clock=clock)
    assert [next(views), next(views)] == ["up", "up again"]
    with pytest.raises(Unreachable):
        next(views)


def test_one_that_never_answered_is_not_waited_for() -> None:
    clock = Clock()
    with pytest.raises(Unreachable):
        next(polled(looks(gone()), pause_seconds=1, patience_seconds=60, clock=clock))


@pytest.mark.parametrize(("status", "waits"), [(502, True), (503, True), (429, True), (404, False)])
def test_a_proxy_that_answers_for_a_service_that_restarts_is_waited_for(
    status: int, waits: bool
) -> None:
    clock = Clock()
    look = looks("up", ApiError(status, "code", "message", "cure"), "up again")
    views = polled(look, pause_seconds=5, patience_seconds=12, sleep=clock.sleep, clock=clock)
    assert next(views) == "up"
    if waits:
        assert next(views) == "up again"
    else:
        with pytest.raises(ApiError):
            next(views)
