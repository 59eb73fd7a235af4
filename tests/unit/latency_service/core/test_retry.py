from __future__ import annotations

import threading
import time
from itertools import islice

import pytest

from latency_service.core.retry import (
    FIRST_SECONDS,
    LONGEST_SECONDS,
    Stopped,
    delays,
    retried,
    until_answered,
    until_done,
)
from latency_service.core.transport import ApiError, Transport, Unreachable, is_retryable

UNREACHABLE = Unreachable("http://nowhere", ConnectionError("refused"))


def answer(status: int) -> ApiError:
    return ApiError(status, "code", "cause", "cure")


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (UNREACHABLE, True),
        (answer(401), False),
        (answer(403), False),
        (answer(404), False),
        (answer(409), False),
        (answer(410), False),
        (answer(413), False),
        (answer(422), False),
        (answer(408), True),
        (answer(429), True),
        (answer(500), True),
        (answer(502), True),
        (answer(503), True),
        (answer(504), True),
        (answer(200), True),  # the page of a captive portal
        (answer(302), True),
        (answer(511), True),
        (answer(301), False),
        (ValueError("no answer of the service"), False),
    ],
    ids=lambda value: str(getattr(value, "status", value)),
)
def test_what_may_succeed_later(error: Exception, again: bool) -> None:
    assert is_retryable(error) is again


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with Transport("http://127.0.0.1:1") as http, pytest.raises(Unreachable) as caught:
        http.request("GET", "/healthz")
    assert is_retryable(caught.value)


def test_delays_double_up_to_the_longest() -> None:
    assert list(islice(delays(jitter=lambda: 1.0), 9)) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_jitter_takes_the_whole_interval() -> None:
    shortest, longest = (list(islice(delays(jitter=lambda v=value: v), 12)) for value in (0.0, 1.0))
    assert shortest == [0.0] * 12
    for drawn, high in zip(islice(delays(), 12), longest, strict=True):
        assert 0.0 <= drawn <= high <= LONGEST_SECONDS


def test_a_service_that_names_a_pause_is_left_alone_for_that_long() -> None:
    busy = ApiError(429, "too_many", "cause", "cure", retry_after_seconds=7.0)
    outcomes: list[ApiError | str] = [busy, "here"]
    waited: list[float] = []

    def ask() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, ApiError):
            raise outcome
        return outcome

    assert until_answered(ask, lambda seconds: bool(waited.append(seconds))) == "here"
    [seconds] = [seconds for seconds in waited if seconds]
    assert 7.0 <= seconds <= 7.0 + FIRST_SECONDS


def test_tries_until_there_is_an_answer() -> None:
    outcomes: list[ApiError | str] = [UNREACHABLE, answer(503), answer(429), "here"]
    waited: list[float] = []

    def ask() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, ApiError):
            raise outcome
        return outcome

    def pause(seconds: float) -> bool:
        waited.append(seconds)
        return False

    assert until_answered(ask, pause) == "here"
    paused = [seconds for seconds in waited if seconds]
    assert len(paused) == 3
    assert all(seconds <= limit for seconds, limit in zip(paused, (0.5, 1, 2), strict=True))


def test_a_refusal_is_not_repeated() -> None:
    asked: list[int] = []

    def ask() -> None:
        asked.append(1)
        raise answer(409)

    with pytest.raises(ApiError) as caught:
        until_answered(ask, lambda _: False)
    assert (caught.value.status, len(asked)) == (409, 1)


def test_stops_between_two_tries() -> None:
    def ask() -> None:
        raise UNREACHABLE

    with pytest.raises(Stopped):
        until_answered(ask, lambda _: True)


def test_stops_while_a_request_is_under_way() -> None:
    stop = threading.Event()
    release = threading.Event()
    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        until_answered(lambda: release.wait(20), stop.wait)
    assert time.monotonic() - began < 2
    release.set()


def test_a_request_is_tried_so_many_times_with_pauses_between() -> None:
    asked: list[int] = []
    pauses: list[float] = []

    def ask() -> str:
        asked.append(1)
        raise Unreachable("http://board", OSError("refused"))

    with pytest.raises(Unreachable):
        retried(ask, tries=3, sleep=pauses.append)
    assert len(asked) == 3
    assert len(pauses) == 2


def test_a_refusal_is_not_tried_again() -> None:
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        raise ApiError(404, "not_found", "none", "")

    with pytest.raises(ApiError, match="none"):
        retried(ask, tries=3, sleep=lambda _: None)
    assert len(asked) == 1


def test_a_call_that_is_under_way_may_end_when_the_process_is_to_stop() -> None:
    def slow() -> str:
        time.sleep(0.3)
        return "done"

    assert until_done(slow, lambda _: True, lambda *_: None, grace_seconds=10) == "done"
    with pytest.raises(Stopped):
        until_done(slow, lambda _: True, lambda *_: None)


def test_what_ends_the_thread_of_a_call_ends_its_caller() -> None:
    def leave() -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        until_answered(leave, lambda _: False)
