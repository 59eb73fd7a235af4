"""Leases that have run out are found here, by elapsed time that no clock can jump.

The database's clock says how much of a lease is left when a process first sees it. From then on the
process's monotonic clock decides: a wall clock that is set back does not keep a job leased, and one
that is set forward ends no lease early. A renewal is another lease. Each process sweeps for the
whole database; ending a lease is conditional, so it does not matter how many do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from latency_service.db.engine import Database
from latency_service.jobs import repository, service
from latency_service.settings import Settings

log = structlog.get_logger(__name__)


class Sweeper:
    """What one process has seen of the open leases. Thread-safe.

    Args:
        clock: seconds that never jump.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._mutex = threading.Lock()
        #: When each open lease ends, by this process's clock.
        self._ends: dict[repository.OpenLease, float] = {}

    def sweep(self) -> int:
        """End every attempt whose lease has run out, each in a transaction of its own; returns
        their number. One that cannot be ended holds up no other and is tried again a lease later.
        """
        with self._mutex:
            ran_out = self._look()
        return sum(self._end(lease) for lease in ran_out)

    def _end(self, lease: repository.OpenLease) -> bool:
        try:
            service.end_silent(self._database, self._settings, lease)
        except (SQLAlchemyError, MemoryError):
            raise
        except Exception:
            log.error("lease_not_ended", attempt=lease.attempt_id, exc_info=True)
            with self._mutex:
                self._ends[lease] = self._clock() + self._settings.lease_seconds
            return False
        return True

    def _look(self) -> list[repository.OpenLease]:
        with self._database.look() as connection:
            left = repository.seconds_left(connection)
        now = self._clock()
        most_seconds = self._settings.lease_seconds
        self._ends = {
            lease: self._ends.get(lease, now + min(seconds, most_seconds))
            for lease, seconds in left.items()
        }
        return [lease for lease, end in self._ends.items() if end <= now]
