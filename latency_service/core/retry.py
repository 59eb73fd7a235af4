"""When and how long to try again. For requests `transport.is_retryable` alone decides what may
succeed later.
"""

from __future__ import annotations

import contextvars
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import TypeVar

from latency_service.core.transport import ApiError, is_retryable

T = TypeVar("T")
#: Gives the pause before the next try, in seconds, for an error and the pause that `delays`
#: proposes; None where it is of no use to try again.
Judge = Callable[[Exception, float], float | None]

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0
#: How often an operation that is under way is asked whether anybody still waits for its end.
_LOOK_SECONDS = 0.1


class Stopped(Exception):
    """The process is to stop."""


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

    def judge(error: Exception, seconds: float) -> float | None:
        if not isinstance(error, ApiError) or not is_retryable(error):
            return None
        seconds += error.retry_after_seconds
        log.warning("try_again", cause=error.message, seconds=round(seconds, 1))
        return seconds

    return until_done(operation, pause, judge)


def until_done(
    operation: Callable[[], T],
    pause: Callable[[float], bool],
    judge: Judge,
    *,
    grace_seconds: float = 0.0,
) -> T:
    """Call `operation` until it ends without an error that may pass.

    Args:
        pause: as for `until_answered`.
        grace_seconds: how long a call that is under way may go on when the process is to stop.

    Raises:
        Exception: an error after which it is of no use to try again.
        Stopped: `pause` said so; a call that was still under way is left behind.
    """
    for seconds in delays():
        try:
            return _abandonable(operation, pause, grace_seconds)
        except Exception as error:
            chosen = judge(error, seconds)
            if chosen is None:
                raise
        if pause(chosen):
            raise Stopped
    raise AssertionError("delays never end")


def _abandonable(
    operation: Callable[[], T], pause: Callable[[float], bool], grace_seconds: float
) -> T:
    """What `operation` gives, in a thread of its own: a long poll, a download or a database that
    hangs is no reason to stop late.
    """
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(operation())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            future.set_exception(error)

    # its log lines name the same job
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(call,), name="operation", daemon=True).start()
    while not wait([future], timeout=_LOOK_SECONDS).done:
        if pause(0) and not wait([future], timeout=grace_seconds).done:
            raise Stopped
    return future.result()
