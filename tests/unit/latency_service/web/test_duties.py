"""Duties of upkeep go on whatever happens to them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from latency_service.web.duties import LONGEST_PAUSE_SECONDS, pause_seconds, repeat


class Duty:
    """Fails as told, and then no more.

    Args:
        errors: what the first calls raise.
    """

    def __init__(self, *errors: BaseException) -> None:
        self.calls = 0
        self._errors: Iterator[BaseException] = iter(errors)

    def call(self) -> None:
        self.calls += 1
        error = next(self._errors, None)
        if error is not None:
            raise error


def test_a_duty_goes_on_after_any_exception_and_is_logged_once_in_a_row() -> None:
    duty = Duty(ValueError("unexpected"), KeyError("again"), OSError("and again"))

    async def some_time() -> None:
        task = asyncio.create_task(repeat(0.001, duty.call))
        while duty.calls < 6:
            await asyncio.sleep(0.001)
        task.cancel()

    with capture_logs() as logs:
        asyncio.run(asyncio.wait_for(some_time(), 20))
    [line] = logs
    assert (line["event"], line["duty"], line["exc_info"]) == ("duty_failed", "Duty.call", True)


def test_a_duty_that_is_cancelled_ends_its_call_first() -> None:
    begun, ended = threading.Event(), threading.Event()

    def duty() -> None:
        begun.set()
        time.sleep(0.1)
        ended.set()

    async def some_time() -> None:
        task = asyncio.create_task(repeat(60.0, duty))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert ended.is_set()

    asyncio.run(asyncio.wait_for(some_time(), 20))


def test_a_lack_of_memory_ends_a_duty_and_is_told() -> None:
    with capture_logs() as logs, pytest.raises(MemoryError):
        asyncio.run(asyncio.wait_for(repeat(0.001, Duty(MemoryError()).call), 20))
    assert logs[0]["log_level"] == "critical"


def test_pauses_grow_but_are_never_shorter_than_the_interval() -> None:
    assert [pause_seconds(1.0, failures) for failures in range(6)] == [1, 2, 4, 8, 10, 10]
    assert pause_seconds(3600.0, 5) == 3600.0
    assert pause_seconds(1.0, 2000) == LONGEST_PAUSE_SECONDS
