"""Retention of raw rounds: after some time only the statistics of a measurement are kept.

Rounds take most of a measurement's space. Without them a measurement can still be trained on
and compared; it can no longer be evaluated anew by another statistic.
"""

from __future__ import annotations

import structlog

from latency_service.db.engine import Database
from latency_service.measurements import repository

log = structlog.get_logger(__name__)

#: Measurements in one transaction, so that nobody waits long for the lock.
CHUNK = 200
#: How often the service looks for old rounds.
INTERVAL_SECONDS = 3600.0
_DAY_SECONDS = 24 * 3600.0


def drop_rounds(database: Database, older_than_days: float) -> int:
    """Drop the raw rounds of every measurement older than that; how many measurements had some.

    Works in small transactions, so that it may run beside the service.
    """
    total = 0
    while True:
        with database.write() as session:
            dropped = repository.drop_rounds(session, older_than_days * _DAY_SECONDS, CHUNK)
        total += dropped
        if dropped < CHUNK:
            return total


def drop_old_rounds(database: Database, keep_days: float) -> None:
    """Drop rounds older than `keep_days`, a duty of every replica (`web.duties.repeat`)."""
    dropped = drop_rounds(database, keep_days)
    if dropped:
        log.info("rounds_dropped", measurements=dropped, keep_days=keep_days)
