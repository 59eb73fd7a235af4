"""Who has written to the database: whatever waits for a change is told of it and need not look.

PostgreSQL tells each replica by NOTIFY, over one connection of its own; a trigger of the table
sends it with the commit, so no writer can forget it. A SQLite file cannot tell: there one look at
its counter of changes (`PRAGMA data_version`), a few microseconds, serves all who wait, and a
commit of this process is told at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from typing import Any

import structlog

from latency_service.db.engine import Database

log = structlog.get_logger(__name__)

#: Channel on which the trigger of `jobs` tells the device that has new work.
CHANNEL = "latency_service_queued"
#: A connection that has brought nothing for so long is tried.
TRIED_AFTER_SECONDS = 20.0
#: Pause before a lost connection is made again.
AGAIN_SECONDS = 1.0
#: Commits within this time are told of together.
GATHERED_SECONDS = 0.02

#: Called with the payloads of notifications, or None when anything may have changed.
Changed = Callable[[frozenset[str] | None], Awaitable[None]]


async def watch(database: Database, changed: Changed, look_seconds: float) -> None:
    """Call `changed` after each change of the database, until cancelled.

    Args:
        look_seconds: how often a SQLite file is looked at for commits of other processes.
    """
    while True:
        try:
            if database.dialect == "postgresql":
                await _listen(database, changed)
            else:
                await _look(database, changed, look_seconds)
        except Exception as error:  # noqa: BLE001 - the drivers' errors have no common base
            log.info("watching_interrupted", error=str(error))
        await asyncio.sleep(AGAIN_SECONDS)


async def _listen(database: Database, changed: Changed) -> None:
    import psycopg

    url = database.engine.url
    words, options = database.engine.dialect.create_connect_args(url)
    connection = await psycopg.AsyncConnection.connect(*words, **options, autocommit=True)
    async with connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        await changed(None)  # what was told meanwhile is lost
        while True:
            async for notice in connection.notifies(timeout=TRIED_AFTER_SECONDS):
                await changed(frozenset((notice.payload,)))
            async with asyncio.timeout(TRIED_AFTER_SECONDS):
                await connection.execute("SELECT 1")


async def _look(database: Database, changed: Changed, look_seconds: float) -> None:
    committed = asyncio.Event()
    tell = _teller(committed)
    with database.told_of_commits(tell), closing(database.engine.raw_connection()) as connection:
        known = None
        while True:
            committed.clear()
            version = _data_version(connection)
            if version != known:
                known = version
                await changed(None)
                await asyncio.sleep(GATHERED_SECONDS)
            await _first(committed, look_seconds)


def _teller(event: asyncio.Event) -> Callable[[], None]:
    """A function that sets an event of this loop from any thread."""
    loop = asyncio.get_running_loop()

    def tell() -> None:
        if not event.is_set():
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(event.set)

    return tell


async def _first(event: asyncio.Event, seconds: float) -> None:
    # `asyncio.wait_for` of Python 3.11 loses a cancellation that comes together with the event
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _data_version(connection: Any) -> int:
    """Changes with each commit of any other connection to the file."""
    cursor = connection.cursor()
    try:
        return int(cursor.execute("PRAGMA data_version").fetchone()[0])
    finally:
        cursor.close()
