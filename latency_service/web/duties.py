"""Work that a process of the service does again and again beside answering requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import structlog
from starlette.concurrency import run_in_threadpool

Result = TypeVar("Result")

log = structlog.get_logger(__name__)

#: Longest pause after failures of a duty whose own interval is shorter.
LONGEST_PAUSE_SECONDS = 10.0


async def repeat(seconds: float, duty: Callable[[], object]) -> None:
    """Call `duty` in a thread now and every `seconds`, until cancelled; a call that has begun ends
    before.

    A duty that fails, with whatever exception, is called again after pauses that double up to
    `LONGEST_PAUSE_SECONDS`; the first failure in a row is logged. Only a lack of memory ends it.

    Raises:
        MemoryError: the duty did.
    """
    failures = 0
    while True:
        try:
            await in_thread(duty)
            failures = 0
        except MemoryError:
            log.critical("duty_ended", duty=duty.__qualname__, exc_info=True)
            raise
        except Exception:
            if failures == 0:
                log.error("duty_failed", duty=duty.__qualname__, exc_info=True)
            failures += 1
        await asyncio.sleep(pause_seconds(seconds, failures))


async def in_thread(work: Callable[[], Result]) -> Result:
    """The result of `work` in a thread. When cancelled, the thread ends first: it may hold a
    connection of a database that is closed afterwards.
    """
    running = asyncio.ensure_future(run_in_threadpool(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise


def pause_seconds(interval_seconds: float, failures: int) -> float:
    """Pause after so many failures in a row."""
    doubled = interval_seconds * 2.0 ** min(failures, 30)
    return max(interval_seconds, min(doubled, LONGEST_PAUSE_SECONDS))
