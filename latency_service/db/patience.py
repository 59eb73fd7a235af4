"""Work of a process that outlasts faults of the database, where no client waits for an answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from latency_service.core.retry import until_done
from latency_service.db.faults import Fault, fault_of

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: How long a transaction that is under way may go on when the process is to stop: a healthy
#: database needs less, and whoever stops the process waits for little longer.
GRACE_SECONDS = 1.5


class Patience:
    """Repeats what a fault of the database has interrupted until it succeeds. Thread-safe.

    The log has one line when a fault begins and one when it is over, however many threads meet it.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        #: Number of calls that are being repeated.
        self._waiting = 0
        self._is_back = False

    def outlast(self, work: Callable[[], T], stop: threading.Event) -> T:
        """The result of `work`, which is called until no fault of the database interrupts it.

        Args:
            work: transactions that may be repeated although they were committed: the answer to a
                commit may be lost.
            stop: ends the waiting. Work that is begun when it is set is tried once.

        Raises:
            Exception: any other error of `work`.
            Stopped: `stop` was set before `work` succeeded.
        """
        met = False

        def judge(error: Exception, seconds: float) -> float | None:
            nonlocal met
            fault = fault_of(error)
            if fault is None:
                return None
            if not met:
                met = True
                self._begin(fault, error)
            return seconds

        succeeded = False
        try:
            result = until_done(work, stop.wait, judge, grace_seconds=GRACE_SECONDS)
            succeeded = True
        finally:
            if met:
                self._end(succeeded)
        return result

    def _begin(self, fault: Fault, error: Exception) -> None:
        with self._mutex:
            self._waiting += 1
            if self._waiting == 1:
                said = getattr(error, "orig", None) or error
                log.error(
                    "waiting_for_database",
                    code=fault.code,
                    message=fault.message,
                    cure=fault.cure,
                    error=str(said),
                )

    def _end(self, succeeded: bool) -> None:
        with self._mutex:
            self._waiting -= 1
            self._is_back |= succeeded
            if self._waiting == 0 and self._is_back:
                self._is_back = False
                log.info("database_is_back")
