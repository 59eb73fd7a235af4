"""Retention of raw rounds: after some time only the statistics of a measurement are kept.

Rounds take most of a measurement's space. Without them a measurement can still be trained on
and compared; it can no longer be evaluated anew by another statistic.
"""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from latency_service.core.errors import ServiceError
from latency_service.db.engine import Database
from latency_service.measurements import repository

log = structlog.get_logger(__name__)

#: Measurements in one transaction, so that nobody waits long for the lock.
CHUNK = 200
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


async def keep_dropping(
    database: Database, keep_days: float, interval_seconds: float = INTERVAL_SECONDS
) -> None:
    """Drop rounds older than `keep_days` now and every hour, until cancelled.

    Any number of replicas may do so. A database that does not answer is tried again an hour later.
    """
    while True:
        try:
            dropped = await run_in_threadpool(drop_rounds, database, keep_days)
        except (SQLAlchemyError, ServiceError) as error:
            log.warning("rounds_not_dropped", cause=str(error))
        else:
            if dropped:
                log.info("rounds_dropped", measurements=dropped, keep_days=keep_days)
        await asyncio.sleep(interval_seconds)
