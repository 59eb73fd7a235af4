"""What a process of the service does beside answering: end leases that have run out, store which
agents it has heard of, and wake the long polls that have work.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from latency_service.db.changes import watch
from latency_service.db.engine import Database
from latency_service.devices.presence import Presence
from latency_service.jobs import claims, repository
from latency_service.jobs.schemas import Lease
from latency_service.jobs.sweeping import Sweeper
from latency_service.jobs.waiting import WaitingPolls
from latency_service.settings import Settings
from latency_service.web.duties import in_thread, repeat

#: How often the agents of the fleet are counted.
COUNT_SECONDS = 30.0
#: How often it is seen whether the service stops.
_STOP_SECONDS = 0.1


class Upkeep:
    """The queue's duties in one process.

    Args:
        stopping: set when the process stops; waiting polls are then sent home.
    """

    def __init__(self, database: Database, settings: Settings, stopping: threading.Event) -> None:
        self._database = database
        self._settings = settings
        self._stopping = stopping
        self.sweeper = Sweeper(database, settings)
        self.presence = Presence(database, settings)
        self.polls = WaitingPolls()
        self._loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep at it in this event loop while the block runs."""
        settings = self._settings
        self._loop = asyncio.get_running_loop()
        duties = [
            self._send_home(),
            watch(self._database, self._wake, settings.lease_check_seconds),
            repeat(settings.sweep_seconds, self.sweeper.sweep),
            repeat(COUNT_SECONDS, self.presence.count_fleet),
            repeat(settings.presence_seconds or COUNT_SECONDS, self.presence.store),
        ]
        tasks = [asyncio.create_task(duty) for duty in duties]
        try:
            yield
        finally:
            self.polls.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(SQLAlchemyError):
                await run_in_threadpool(self.presence.store)

    def first_look(self, agent_id: str) -> tuple[str | None, Lease | None]:
        """The look at the queue with which an agent's poll begins; see `claims.first_look`."""
        self.presence.note(agent_id)
        return claims.first_look(self._database, self._settings, agent_id, self.sweeper.sweep)

    def next_lease(self, agent_id: str) -> Lease | None:
        """A further look of a poll; see `claims.next_lease`."""
        return claims.next_lease(self._database, self._settings, agent_id, self.sweeper.sweep)

    def send_home(self, agent_id: str) -> None:
        """End the poll of an agent that waits, from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.polls.end_of, agent_id)

    async def _wake(self, device_ids: frozenset[str] | None) -> None:
        """New work is queued for these devices; None: for any, so see for which."""
        if self.polls.is_empty:
            return
        if device_ids is None:
            device_ids = await in_thread(self._devices_with_work)
        self.polls.wake(device_ids)

    def _devices_with_work(self) -> frozenset[str]:
        with self._database.look() as connection:
            return frozenset(repository.devices_with_work(connection))

    async def _send_home(self) -> None:
        while not self._stopping.is_set():
            await asyncio.sleep(_STOP_SECONDS)
        self.polls.close()
