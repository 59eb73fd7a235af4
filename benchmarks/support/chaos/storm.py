"""One run: replicas, agents and a broken network, killed by a plan, and what became of the work."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from benchmarks.support.chaos import databases, history, stored
from benchmarks.support.chaos.checker import Violation, check
from benchmarks.support.chaos.databases import ChaosDatabase
from benchmarks.support.chaos.faults import FaultProxy
from benchmarks.support.chaos.feeder import Feeder
from benchmarks.support.chaos.history import Event
from benchmarks.support.chaos.processes import (
    API_TOKEN,
    Replica,
    SimulatedAgent,
    Victim,
    replica,
    simulated_agent,
)
from benchmarks.support.chaos.stored import Stored
from benchmarks.support.databases import Dialect
from latency_service.core import exit_codes
from latency_service.core.kill_points import AgentPoint, ServicePoint

REPLICAS = 2
DEVICES = ("board-0", "board-1")
AGENTS_PER_DEVICE = 2
#: How often processes are looked after, s.
TICK_SECONDS = 0.05
#: Life of a replica that has no kill point, and of one that does not reach its own, s.
LIFE_SECONDS = (0.3, 3.0)
PATIENCE_SECONDS = 8.0
#: Share of the starts with a kill point.
ARMED = {"service": 0.6, "agent": 0.9}
#: Share of the kill points that are the one at which fewest were killed.
RAREST = 0.5
#: Highest number of the pass at which a kill point kills.
MAX_PASSES = {"service": 12, "agent": 5}
#: Points that a process passes once in its life, or hardly ever.
PASSED_ONCE = ("registered-before-saving-state", "swept-before-commit")
ANY_MOMENT = "any moment"
#: Where the agent dies that does not come back.
LAST_POINT = "leased-before-measuring:1"
#: Mean time between two stops of a process, and their length: longer than a lease, s.
STOP_EVERY_SECONDS = 8.0
STOPPED_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is broken at least before the run calms down."""

    dialect: Dialect
    seed: int
    service_kills: int
    #: Kills of agents at named points.
    agent_kills: int
    database_restarts: int
    #: Number of different named points at which somebody is killed.
    points: int = 1
    #: Share of the agents' requests that the network spoils.
    fault_share: float = 0.12
    #: Longest time in which all that is broken, and in which all work ends after that, s.
    rage_seconds: float = 3600.0
    calm_seconds: float = 120.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was broken, and what the histories and the database prove."""

    service_kills: int
    agent_kills: int
    database_restarts: int
    #: Kills by the named point, or by the moment when there was none.
    kills: dict[str, int]
    stops: int
    #: Starts of the service that ended because the database did not answer.
    refused_starts: int
    faults: dict[str, int]
    #: Answers of the service by status, as the proxy saw them, and refusals of the feeder's
    #: requests.
    statuses: dict[str, int]
    #: Processes that ended without being killed or did not stop when asked to, and errors of the
    #: proxy itself.
    unexpected: list[str]
    #: Results that agents still keep for their delivery.
    undelivered: int
    events: list[Event]
    stored: Stored
    violations: list[Violation]
    seconds: float


def named_points(kills: Mapping[str, int]) -> list[str]:
    """The named points at which somebody was killed, of the keys of `Outcome.kills`."""
    return [name for name in kills if not name.endswith(ANY_MOMENT)]


@dataclass(kw_only=True)
class _Schedule:
    """When something happens to each process, by its name."""

    #: When it is killed from outside.
    kill_at: dict[str, float] = field(default_factory=dict)
    #: When a stopped process continues.
    continue_at: dict[str, float] = field(default_factory=dict)
    next_stop_at: float = 0.0


def run(plan: Plan, folder: Path) -> Outcome:
    """Break the service as planned, let it calm down, and check what became of the work."""
    began = time.monotonic()
    with ExitStack() as stack:
        database = stack.enter_context(databases.opened(plan.dialect, folder))
        storm = _Storm(plan, folder, database, stack)
        storm.rage()
        storm.calm()
        storm.end()
        rows = stored.read(database.url)
    events = history.read(folder)
    return Outcome(
        service_kills=storm.counts["service"],
        agent_kills=storm.counts["agent"],
        database_restarts=storm.counts["database"],
        kills=dict(sorted(storm.kills.items())),
        stops=storm.counts["stops"],
        refused_starts=storm.counts["refused starts"],
        faults=dict(storm.proxy.faults),
        statuses=storm.statuses,
        unexpected=storm.unexpected + storm.proxy.errors,
        undelivered=storm.undelivered,
        events=events,
        stored=rows,
        violations=check(events, rows),
        seconds=time.monotonic() - began,
    )


class _Storm:
    """The processes of a run. Everything but the feeder and the proxy runs in one thread."""

    def __init__(self, plan: Plan, folder: Path, database: ChaosDatabase, stack: ExitStack) -> None:
        self.counts: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self._plan = plan
        self._database = database
        self._random = random.Random(plan.seed)
        self._schedule = _Schedule()
        self._is_calm = False
        #: Agent that is not started again.
        self._retired: SimulatedAgent | None = None
        #: Replicas that ended with the database that lives in them.
        self._restarting: set[str] = set()
        self._replicas = [replica(f"service-{i}", database.url, folder) for i in range(REPLICAS)]
        ports = [one.port for one in self._replicas]
        proxy = FaultProxy(ports, share=plan.fault_share, seed=plan.seed)
        self.proxy = stack.enter_context(proxy)
        self._agents = _agents(self.proxy.url, folder)
        urls = [one.url for one in self._replicas]
        self._feeder = Feeder(urls, API_TOKEN, DEVICES, folder / "feeder.jsonl", seed=plan.seed)
        stack.callback(self._feeder.close)
        stack.callback(self._kill_all)

    def rage(self) -> None:
        """Break everything until the plan is fulfilled.

        Raises:
            RuntimeError: That takes longer than planned, or nobody asks for work any more.
        """
        self._feeder.start()
        until = time.monotonic() + self._plan.rage_seconds
        while not self._is_fulfilled():
            if time.monotonic() > until:
                raise RuntimeError(f"the plan is not fulfilled: {self.counts}, {self.kills}")
            self._check_feeder()
            self._tend()
            self._restart_database_when_due()
            self._stop_someone_when_due()
            time.sleep(TICK_SECONDS)

    def calm(self) -> None:
        """Break nothing more but the last agent, and wait until all work has ended."""
        self._is_calm = True
        self.proxy.share = 0.0
        self._schedule = _Schedule()
        for victim in self._victims:
            victim.send(signal.SIGCONT)
        self._retire(self._agents[-1])
        self._feeder.stop()
        self._check_feeder()
        deadline = time.monotonic() + self._plan.calm_seconds
        while not self._is_done() and time.monotonic() < deadline:
            for _ in range(round(1 / TICK_SECONDS)):
                self._tend()
                time.sleep(TICK_SECONDS)

    def _check_feeder(self) -> None:
        if self._feeder.failure is not None:
            raise RuntimeError("nobody asks for work any more") from self._feeder.failure

    def _retire(self, agent: SimulatedAgent) -> None:
        """Let an agent take one more job and die with it for good: another one has to do it."""
        agent.end(signal.SIGKILL)
        if agent.exit_code is not None:
            self._note_end("agent", agent)
        self._retired = agent
        if agent.has_identity:
            agent.enrol(None)
            agent.start(LAST_POINT)

    def end(self) -> None:
        """Stop all processes, agents first."""
        for victim in reversed(self._victims):
            was_running = victim.is_running
            victim.end(signal.SIGTERM)
            if was_running and victim.exit_code != exit_codes.OK and not self._died(victim):
                self.unexpected.append(
                    f"{victim.name} was stopped and ended with {victim.exit_code}: see {victim.log}"
                )

    @property
    def undelivered(self) -> int:
        """Number of results that agents keep for their delivery, but for the one that is gone."""
        alive = [agent for agent in self._agents if agent is not self._retired]
        return sum(agent.undelivered for agent in alive)

    @property
    def statuses(self) -> dict[str, int]:
        """Answers of the service by status."""
        found = self.proxy.statuses.copy()
        for status, number in self._feeder.refusals.items():
            if status:
                found[str(status)] += number
        return dict(sorted(found.items()))

    @staticmethod
    def _died(victim: Victim) -> bool:
        """Whether it has killed itself where it was to."""
        is_armed = victim.kill_point is not None and not victim.was_killed
        return is_armed and victim.exit_code == -signal.SIGKILL

    @property
    def _victims(self) -> Sequence[Victim]:
        return [*self._replicas, *self._agents]

    def _is_fulfilled(self) -> bool:
        plan = self._plan
        return (
            self.counts["service"] >= plan.service_kills
            and self.counts["agent"] >= plan.agent_kills
            and self.counts["database"] >= plan.database_restarts
            and len(named_points(self.kills)) >= plan.points
        )

    def _is_done(self) -> bool:
        return self._feeder.is_idle() and self.undelivered == 0

    def _kill_all(self) -> None:
        for victim in self._victims:
            victim.end(signal.SIGKILL)

    def _tend(self) -> None:
        """Note deaths, start what is dead, and kill and continue what is due."""
        now = time.monotonic()
        for one in self._replicas:
            self._tend_replica(one, now)
        for agent in self._agents:
            self._tend_agent(agent, now)
        for victim in self._victims:
            if now >= self._schedule.kill_at.get(victim.name, float("inf")):
                victim.send(signal.SIGKILL)
            if now >= self._schedule.continue_at.get(victim.name, float("inf")):
                del self._schedule.continue_at[victim.name]
                victim.send(signal.SIGCONT)

    def _tend_replica(self, one: Replica, now: float) -> None:
        if one.exit_code is not None:
            self._note_end("service", one)
        if not one.is_running:
            self._schedule.kill_at.pop(one.name, None)
            one.start(self._drawn_point("service", get_args(ServicePoint)))
        elif self._has_no_end(one) and one.is_ready():
            self._schedule.kill_at[one.name] = now + self._drawn_life(one)

    def _has_no_end(self, one: Replica) -> bool:
        """Whether it is to be killed, and it is not known when."""
        schedule = self._schedule
        is_known = one.name in schedule.kill_at or one.name in schedule.continue_at
        return not self._is_calm and not is_known

    def _tend_agent(self, agent: SimulatedAgent, now: float) -> None:
        if agent.exit_code is not None:
            self._note_end("agent", agent)
        if agent.is_running or agent is self._retired:
            return
        token = None if agent.has_identity else self._feeder.enrolment(agent.device)
        if token is None and not agent.has_identity:
            return  # again at the next tick: no replica answers
        agent.enrol(token)
        agent.start(self._drawn_point("agent", get_args(AgentPoint)))
        if not self._is_calm:
            self._schedule.kill_at[agent.name] = now + self._drawn_life(agent)

    def _drawn_point(self, kind: str, names: Sequence[str]) -> str | None:
        if self._is_calm or self._random.random() >= ARMED[kind]:
            return None
        rarest = min(names, key=lambda name: self.kills[f"{kind}: {name}"])
        name = rarest if self._random.random() < RAREST else self._random.choice(names)
        passes = 1 if name in PASSED_ONCE else self._random.randint(1, MAX_PASSES[kind])
        return f"{name}:{passes}"

    def _drawn_life(self, victim: Victim) -> float:
        if victim.kill_point is not None:
            return PATIENCE_SECONDS
        return self._random.uniform(*LIFE_SECONDS)

    def _note_end(self, kind: str, victim: Victim) -> None:
        code = victim.bury()
        if victim.name in self._restarting:
            self._restarting.remove(victim.name)
        elif self._is_refused_start(kind, code):
            self.counts["refused starts"] += 1
        elif code != -signal.SIGKILL:
            self.unexpected.append(f"{victim.name} ended with {code}: see {victim.log}")
        elif victim.was_killed:
            self.counts[kind if kind == "service" else "agent at any moment"] += 1
            self.kills[f"{kind}: {ANY_MOMENT}"] += 1
        else:
            self.counts[kind] += 1
            self.kills[f"{kind}: {str(victim.kill_point).partition(':')[0]}"] += 1

    def _is_refused_start(self, kind: str, code: int) -> bool:
        """Whether the service found its database in the middle of a restart."""
        is_away = not self._database.lives_in_service
        return kind == "service" and is_away and code == exit_codes.UNREACHABLE

    def _restart_database_when_due(self) -> None:
        """Spread the restarts evenly over the kills of the service."""
        plan = self._plan
        done = self.counts["service"] / plan.service_kills
        if self.counts["database"] >= plan.database_restarts * min(1.0, done):
            return
        if self._database.lives_in_service:
            self._kill_replicas()
        self._database.restart()
        self.counts["database"] += 1

    def _kill_replicas(self) -> None:
        for one in self._replicas:
            if one.is_running:
                self._restarting.add(one.name)
                one.send(signal.SIGKILL)

    def _stop_someone_when_due(self) -> None:
        now = time.monotonic()
        if now < self._schedule.next_stop_at:
            return
        victim = self._random.choice(self._victims)
        if not victim.send(signal.SIGSTOP):
            return
        self._schedule.continue_at[victim.name] = now + STOPPED_SECONDS
        self._schedule.next_stop_at = now + self._random.expovariate(1 / STOP_EVERY_SECONDS)
        self.counts["stops"] += 1


def _agents(server: str, folder: Path) -> list[SimulatedAgent]:
    return [
        simulated_agent(f"{device}-agent-{i}", device, server, folder)
        for device in DEVICES
        for i in range(AGENTS_PER_DEVICE)
    ]
