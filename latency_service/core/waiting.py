"""The one loop that waits for something: look, pause, look again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from latency_service.core.transport import ApiError, is_retryable

T = TypeVar("T")


def polled(
    look: Callable[[], T],
    *,
    pause_seconds: float,
    timeout_seconds: float = math.inf,
    patience_seconds: float = 0.0,
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[T]:
    """Results of `look` with pauses between them; the caller ends the loop when it has seen enough.

    Args:
        timeout_seconds: longest time until the caller ends the loop.
        patience_seconds: longest time without an answer of a service that has answered before: it
            may be restarting, also behind a proxy that answers in its place.

    Raises:
        TimeoutError: the time is over.
        ApiError: the service refuses, does not answer, or has not answered for too long.
    """
    began = clock()
    answered_at = -math.inf
    while True:
        try:
            result = look()
        except ApiError as error:
            if not is_retryable(error) or clock() - answered_at > patience_seconds:
                raise
        else:
            answered_at = clock() if patience_seconds else answered_at
            yield result
        if clock() - began > timeout_seconds:
            raise TimeoutError
        sleep(pause_seconds)
