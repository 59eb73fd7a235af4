"""The protocol under any order of claims, renewals, duplicate, reordered and replayed uploads,
agents that sleep past their leases, and clocks that jump: it does what a small model does, on both
databases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.core.errors import NotFound, ServiceError
from latency_service.db.engine import Database
from latency_service.devices.models import Device
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs import claims, service
from latency_service.jobs.models import Attempt, Job
from latency_service.jobs.schemas import Failure, Lease
from latency_service.jobs.sweeping import Sweeper
from latency_service.measurements import results
from latency_service.measurements.models import Measurement
from latency_service.measurements.schemas import ResultBody, Summary
from latency_service.settings import Settings
from tests.support.clocks import DatabaseClock
from tests.support.protocol_model import (
    LEASE_SECONDS,
    MAX_ATTEMPTS,
    MAX_LOST_ATTEMPTS,
    ModelAttempt,
    ModelJob,
    ProtocolModel,
)

Enrol = Callable[..., str]

AGENTS = 3
JOBS = 3
HOUR = 3600.0
SUMMARY = Summary(
    latency_ms=1.0,
    lower_ms=0.9,
    upper_ms=1.1,
    naive_ms=1.0,
    verdict="ok",
    trainable=True,
    quiet_share=1.0,
    rounds_used=9,
)
agents = st.integers(0, AGENTS - 1)
choices = st.integers(0, 1000)


class World:
    """What all examples of one test share."""

    def __init__(
        self, api: TestClient, database: Database, settings: Settings, enrol: Enrol, space_id: str
    ) -> None:
        self.api = api
        self.database = database
        self.settings = settings
        self.enrol = enrol
        self.space_id = space_id
        self.clock = DatabaseClock(database)
        self._numbers = count()

    def new_board(self) -> tuple[list[FakeAgent], list[str]]:
        """Agents of a new device, and its jobs in the order of their queue."""
        name = f"board{next(self._numbers)}"
        made = [FakeAgent(self.api, self.enrol(name), name) for _ in range(AGENTS)]
        with self.database.write() as session:
            device_id = session.scalars(select(Device.id).where(Device.name == name)).one()
            jobs = [self._job(device_id, position) for position in range(JOBS)]
            session.add_all(jobs)
        return made, [job.id for job in jobs]

    def _job(self, device_id: str, position: int) -> Job:
        runtime = RuntimeConfig()
        return Job(
            kind="measure",
            device_id=device_id,
            space_id=self.space_id,
            position=position,
            provider=runtime.provider,
            opset=17,
            runtime=runtime.model_dump(),
            architectures=[[8, 8]],
        )


class Protocol(RuleBasedStateMachine):
    """The service beside the model."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.agents, job_ids = world.new_board()
        self.model = ProtocolModel(jobs=[ModelJob(id=job_id) for job_id in job_ids])
        self.bodies: dict[str, ResultBody] = {}
        self.sweeper = Sweeper(world.database, world.settings, lambda: self.model.elapsed)

    @rule(agent=agents)
    def claim(self, agent: int) -> None:
        expected = self.model.next_job(agent)
        lease = self._ask(agent)
        assert (lease and lease.job_id) == (expected and expected.id)
        if lease is not None and expected is not None:
            self.model.lease(expected, agent, lease.attempt_id)
            self.bodies[lease.attempt_id] = ResultBody.model_validate(
                self.agents[agent].result(lease.model_dump(mode="json"))
            )

    @precondition(lambda self: self.model.attempts)
    @rule(choice=choices)
    def renew(self, choice: int) -> None:
        attempt = self._attempt(choice)
        assert self._renew(attempt) == self.model.renew(attempt)

    @precondition(lambda self: self.model.attempts)
    @rule(choice=choices, digest=st.sampled_from("aaab"))
    def send(self, choice: int, digest: str) -> None:
        attempt = self._attempt(choice)
        answer = self._send(attempt, attempt.agent, digest)
        assert answer == self.model.send(attempt, digest)

    @precondition(lambda self: self.model.attempts)
    @rule(choice=choices)
    def send_anothers(self, choice: int) -> None:
        attempt = self._attempt(choice)
        with pytest.raises(NotFound):
            self._accept(attempt, (attempt.agent + 1) % AGENTS, "a")

    @precondition(lambda self: self.model.attempts)
    @rule(choice=choices)
    def fail(self, choice: int) -> None:
        attempt = self._attempt(choice)
        failure = Failure(kind="runtime_crash", message="as told")
        with self.world.database.write() as session:
            service.fail(
                session, self.world.settings, self.agents[attempt.agent].id, attempt.id, failure
            )
        self.model.fail(attempt)

    @rule(seconds=st.sampled_from([7.0, LEASE_SECONDS - 20, LEASE_SECONDS + 1, 3 * LEASE_SECONDS]))
    def sleep(self, seconds: float) -> None:
        """Time passes while everybody sleeps, as after SIGSTOP; the service's sweeper goes on."""
        self.model.elapsed += seconds
        self.model.clock += seconds
        self.world.clock.set_forward(seconds)

    @rule(seconds=st.sampled_from([-HOUR, HOUR]))
    def jump(self, seconds: float) -> None:
        self.model.clock += seconds
        self.world.clock.set_forward(seconds)

    @invariant()
    def sweeper_ends_what_has_run_out(self) -> None:
        self.sweeper.sweep()
        self.model.sweep()

    @invariant()
    def the_database_holds_what_the_model_holds(self) -> None:
        with self.world.database.read() as session:
            states = dict(session.execute(select(Job.id, Job.state)).all())
            tries = dict(session.execute(select(Attempt.id, Attempt.state)).all())
            grouped = select(Measurement.job_id, Measurement.counted, func.count())
            grouped = grouped.group_by(Measurement.job_id, Measurement.counted)
            kept = Counter({(row[0], row[1]): row[2] for row in session.execute(grouped)})
        for job in self.model.jobs:
            assert states[job.id] == job.state
            assert kept[job.id, True] == (job.state == "done")
            assert kept[job.id, True] + kept[job.id, False] == job.stored
        for attempt in self.model.attempts:
            assert tries[attempt.id] == attempt.state

    def teardown(self) -> None:
        """Nothing stays leased: every open attempt of this example ends in its time."""
        self.model.elapsed += 2 * LEASE_SECONDS
        self.sweeper.sweep()
        with self.world.database.read() as session:
            assert session.scalar(select(func.count()).where(Attempt.state == "open")) == 0

    def _attempt(self, choice: int) -> ModelAttempt:
        return self.model.attempts[choice % len(self.model.attempts)]

    def _ask(self, agent: int) -> Lease | None:
        world = self.world
        return claims.first_look(
            world.database, world.settings, self.agents[agent].id, self.sweeper.sweep
        )[1]

    def _renew(self, attempt: ModelAttempt) -> str:
        world = self.world
        try:
            with world.database.change() as connection:
                service.renew(connection, world.settings, self.agents[attempt.agent].id, attempt.id)
        except ServiceError as error:
            return error.code
        return "renewed"

    def _send(self, attempt: ModelAttempt, agent: int, digest: str) -> str:
        try:
            return self._accept(attempt, agent, digest)
        except ServiceError as error:
            return error.code

    def _accept(self, attempt: ModelAttempt, agent: int, digest: str) -> str:
        body = self.bodies[attempt.id]
        with self.world.database.write() as session:
            spec = service.spec_of(session.connection(), self.agents[attempt.agent].id, attempt.id)
            received = results.Received(spec=spec, body=body, summaries=[SUMMARY], digest=digest)
            return results.accept(
                session, self.world.settings, self.agents[agent].id, attempt.id, received
            ).outcome


@pytest.fixture
def world(
    api: TestClient, database: Database, settings: Settings, enrol: Enrol, space_id: str
) -> Iterator[World]:
    limits = {"max_attempts": MAX_ATTEMPTS, "max_lost_attempts": MAX_LOST_ATTEMPTS}
    made = World(api, database, settings.model_copy(update=limits), enrol, space_id)
    yield made
    made.clock.restore()


@pytest.fixture
def machine(world: World) -> Callable[..., Any]:
    def run(examples: int, steps: int) -> None:
        run_state_machine_as_test(
            lambda: Protocol(world),
            settings=hypothesis_settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                derandomize=examples < 100,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )

    return run


def test_the_protocol_does_what_its_model_does(machine: Callable[..., Any]) -> None:
    machine(examples=15, steps=30)


@pytest.mark.long
def test_the_protocol_does_so_over_thousands_of_steps(machine: Callable[..., Any]) -> None:
    machine(examples=500, steps=60)
