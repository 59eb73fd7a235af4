"""Which agents this process has heard of, and how often they shall be heard of.

Heartbeats and polls of a fleet would be a transaction each. They are gathered in memory instead and
stored together; what a killed process had not stored yet comes with the agents' next heartbeats.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from latency_service.db.engine import Database
from latency_service.devices import repository
from latency_service.devices.schemas import Cadence, HeartbeatRequest
from latency_service.settings import Settings

#: Time within which an agent must have been heard of to count as part of the fleet.
FLEET_SECONDS = 900.0
#: Longest time between two heartbeats, however large the fleet.
LONGEST_HEARTBEAT_SECONDS = 300.0
#: Time that a request for work waits in a small fleet. Many proxies cut requests off after 30 s.
SHORTEST_WAIT_SECONDS = 25.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an agent has said about itself."""

    state: str
    load: float | None
    temperature_c: float | None


class Presence:
    """Agents heard of since the last `store`, and the cadence of the fleet. Thread-safe: stores
    follow each other, so that none with older reports ends after one with newer ones.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._mutex = threading.Lock()
        self._storing = threading.Lock()
        self._heard: dict[str, Report | None] = {}
        self._agents = 0

    def note(self, agent_id: str, request: HeartbeatRequest | None = None) -> None:
        """An agent was heard of: by a heartbeat, or by any other request."""
        with self._mutex:
            before = self._heard.get(agent_id)
            self._heard[agent_id] = before if request is None else _report(request)
        if self._settings.presence_seconds == 0:
            self.store()

    def store(self) -> None:
        """Store who was heard of, in one transaction."""
        with self._storing:
            with self._mutex:
                heard = self._heard
                self._heard = {}
            if not heard:
                return
            stored: set[str] = set()
            try:
                with self._database.write() as session:
                    found = repository.store_heard(session, heard)
                stored = found  # committed
            finally:
                self._keep({one: told for one, told in heard.items() if one not in stored})

    def _keep(self, left: Mapping[str, Report | None]) -> None:
        """Store what could not be stored the next time."""
        with self._mutex:
            self._heard = _merged(left, self._heard)

    def count_fleet(self) -> None:
        """Count the agents that the cadence is for."""
        with self._database.look() as connection:
            self._agents = repository.count_agents(connection, FLEET_SECONDS)

    @property
    def cadence(self) -> Cadence:
        """How often an agent shall be heard of: so rarely that all of them together send no more
        than `Settings.fleet_requests_per_second` heartbeats, and as many polls.
        """
        return cadence_of(self._agents, self._settings)


def cadence_of(agents: int, settings: Settings) -> Cadence:
    """The cadence of a fleet of so many agents."""
    stretched = agents / settings.fleet_requests_per_second
    beat = max(settings.heartbeat_seconds, min(stretched, LONGEST_HEARTBEAT_SECONDS))
    return Cadence(
        heartbeat_seconds=beat,
        poll_seconds=settings.poll_seconds,
        wait_seconds=min(max(SHORTEST_WAIT_SECONDS, stretched), settings.max_wait_seconds),
    )


def _merged(
    older: Mapping[str, Report | None], newer: Mapping[str, Report | None]
) -> dict[str, Report | None]:
    """The newest report of each agent. None is no report: the agent was heard of in another way."""
    return {agent_id: newer.get(agent_id) or older.get(agent_id) for agent_id in {**older, **newer}}


def _report(request: HeartbeatRequest) -> Report:
    return Report(state=request.state, load=request.load, temperature_c=request.temperature_c)
