"""When and how long to try again; `transport.is_retryable` alone decides what may succeed later."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import TypeVar

from latency_service.core.transport import ApiError, is_retryable

T = TypeVar("T")

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0
#: How often a request that is under way is asked whether anybody still waits for its answer.
_LOOK_SECONDS = 0.1


class Stopped(Exception):
    """The agent is to stop."""


def delays(jitter: Callable[[], float] = random.random) -> Iterator[float]:
    """Seconds to wait before each further try: at random from 0 to a limit that is doubled up to
    `LONGEST_SECONDS`, so that a fleet does not come back all at once.
    """
    longest = FIRST_SECONDS
    while True:
        yield longest * jitter()
        longest = min(LONGEST_SECONDS, longest * 2)


def retried(
    operation: Callable[[], T], *, tries: int, sleep: Callable[[float], None] = time.sleep
) -> T:
    """Call `operation` again, after a pause, while what failed may succeed later.

    Args:
        tries: maximum number of calls.

    Raises:
        ApiError: a refusal that no repetition changes, or the last failure.
    """
    pauses = delays()
    for _ in range(tries - 1):
        try:
            return operation()
        except ApiError as error:
            if not is_retryable(error):
                raise
            least_seconds = error.retry_after_seconds
        sleep(least_seconds + next(pauses))
    return operation()


def until_answered(operation: Callable[[], T], pause: Callable[[float], bool]) -> T:
    """Call `operation` until the service answers it.

    Args:
        pause: sleeps for that many seconds and says whether the agent is to stop
            (``threading.Event.wait``).

    Raises:
        ApiError: a refusal that no repetition changes.
        Stopped: `pause` said so; a request that was under way is left behind, every one of them may
            be repeated.
    """
    import structlog

    log = structlog.get_logger(__name__)
    for seconds in delays():
        try:
            return _abandonable(operation, pause)
        except ApiError as error:
            if not is_retryable(error):
                raise
            seconds += error.retry_after_seconds
            log.warning("try_again", cause=error.message, seconds=round(seconds, 1))
        if pause(seconds):
            raise Stopped
    raise AssertionError("delays never end")


def _abandonable(operation: Callable[[], T], pause: Callable[[float], bool]) -> T:
    """What `operation` gives, in a thread of its own: a long poll or a download is no reason to
    stop late.
    """
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(operation())
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            future.set_exception(error)

    threading.Thread(target=call, name="request", daemon=True).start()
    while not wait([future], timeout=_LOOK_SECONDS).done:
        if pause(0):
            raise Stopped
    return future.result()
