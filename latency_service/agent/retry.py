"""When and how long to try again. What may succeed later is decided by `transport.is_retryable` alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TypeVar

import structlog

from latency_service.transport import ApiError, is_retryable

log = structlog.get_logger(__name__)
T = TypeVar("T")

FIRST_SECONDS, LONGEST_SECONDS = 0.5, 30.0


class Stopped(Exception):
    """The agent is to stop."""


def delays(jitter: Callable[[], float] = random.random) -> Iterator[float]:
    """Seconds to wait before each further try: doubled up to `LONGEST_SECONDS`, each with half of it at random, so that
    a fleet does not come back all at once."""
    longest = FIRST_SECONDS
    while True:
        yield longest * (0.5 + 0.5 * jitter())
        longest = min(LONGEST_SECONDS, longest * 2)


def until_answered(operation: Callable[[], T], wait: Callable[[float], bool]) -> T:
    """Call `operation` until the service answers it.

    Args:
        wait: sleeps for that many seconds and says whether the agent is to stop (``threading.Event.wait``).

    Raises:
        ApiError: a refusal that no repetition changes.
        Stopped: `wait` said so.
    """
    for seconds in delays():
        try:
            return operation()
        except ApiError as error:
            if not is_retryable(error):
                raise
            log.warning("try_again", cause=error.message, seconds=round(seconds, 1))
        if wait(seconds):
            raise Stopped
    raise AssertionError("delays never end")
