"""A service whose pages all have something to show: computed latencies, noisy as real ones are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import select, update

from latency_service.agent.testing import CANARIES, FLOOR_MS, FakeAgent, cost_ms
from latency_service.devices.models import Agent
from latency_service.jobs.models import Attempt
from latency_service.measurements.schemas import (
    ArchitectureResult,
    Calibration,
    ResultBody,
    Round,
)
from tests.support.simulated import residual_space, simulated_ms
from tests.support.sites import Site

HOURS = 5.0
FACTS = {
    "processor": "Cortex-A76 @ 2.4 GHz",
    "cores": 4,
    "governor": "ondemand",
    "onnxruntime": "1.31.1",
    "machine": "aarch64",
}


class NoisyAgent(FakeAgent):
    """A device with a neighbour: some rounds are slower, and their canaries tell."""

    random = np.random.default_rng(7)

    def result(self, lease: dict[str, Any], *, scale: float = 1.0) -> dict[str, Any]:
        drift = 1 + 0.004 * self.random.standard_normal()
        architectures = [entry["widths"] for entry in lease["architectures"]] or [[16]]
        body = ResultBody(
            fingerprint=self._fingerprint(lease),
            calibration=Calibration(canaries=CANARIES, floor_ms=[ms * drift for ms in FLOOR_MS]),
            results=[
                self._measured(index, lease["protocol"]["min_rounds"] + 12, self.cost(widths))
                for index, widths in enumerate(architectures)
            ],
            wall_seconds=4.0 + 0.3 * len(architectures),
            timed_seconds=2.2 + 0.2 * len(architectures),
        )
        return body.model_dump(mode="json")

    def _measured(self, index: int, rounds: int, latency_ms: float) -> ArchitectureResult:
        made = [self._round(number, latency_ms) for number in range(rounds)]
        return ArchitectureResult(index=index, rounds=made, stopped="precise")

    def _round(self, number: int, latency_ms: float) -> Round:
        slow = 1 + abs(0.004 * self.random.standard_normal())
        if self.random.random() < 0.18:
            slow *= 1 + self.random.uniform(0.04, 0.35)
        canaries = [ms * slow * (1 + 0.003 * self.random.standard_normal()) for ms in FLOOR_MS]
        disturbed = "the process was interrupted" if self.random.random() < 0.03 else None
        return Round(
            at_seconds=0.8 + 0.11 * number,
            latency_ms=latency_ms * slow * (1 + 0.004 * self.random.standard_normal()),
            runs=5,
            before_ms=canaries,
            after_ms=canaries,
            disturbed=disturbed,
        )


@dataclass(frozen=True, kw_only=True)
class Showcase:
    """What there is to see."""

    space_id: str
    done_campaign: str
    running_campaign: str
    measurement: str
    failed_job: str


def fill(site: Site) -> Showcase:
    """Two devices, one finished campaign with its predictor, one that runs, and failures."""
    space = residual_space()
    space_id = site.upload(space)

    def cost(widths: Sequence[int]) -> float:
        if len(widths) != len(space.groups):  # a sweep for the lattice, of another space
            return cost_ms(widths)
        return float(simulated_ms(space, np.array([widths]))[0])

    board = site.agent("board", NoisyAgent, cost=cost, facts=FACTS)
    laptop = site.agent("laptop", NoisyAgent, cost=cost, facts={**FACTS, "processor": "i7-1370P"})
    done = _campaign(site, space_id, "board", count=40, repeats=6, batch_size=8)
    board.work()
    site.train()
    _fail_one(site, space_id, laptop)
    running = _campaign(site, space_id, "laptop", count=60, repeats=6, batch_size=4)
    for _ in range(14):
        lease = laptop.claim()
        assert lease is not None
        laptop.send(lease)
    laptop.claim()
    _spread_over_hours(site)
    newest = site.get(f"/v1/measurements?campaign_id={done}&limit=1")[0]["id"]
    failed = site.get("/queue.json?state=failed")["jobs"][0]["id"]
    return Showcase(
        space_id=space_id,
        done_campaign=done,
        running_campaign=running,
        measurement=newest,
        failed_job=failed,
    )


def _campaign(site: Site, space_id: str, device: str, **fields: Any) -> str:
    body = {"space_id": space_id, "device": device, **fields}
    return str(site.post("/v1/campaigns", body)["id"])


def _fail_one(site: Site, space_id: str, agent: FakeAgent) -> None:
    groups = site.get(f"/v1/spaces/{space_id}")["groups"]
    widths = [[group["width"] for group in groups]]
    _campaign(site, space_id, agent.device, purpose="measure", widths=widths)
    lease = agent.claim()
    assert lease is not None
    agent.fail(lease, "device_oom", "The device has 512 MB; the graph needs 780 MB.")


def _spread_over_hours(site: Site) -> None:
    """Attempts as if they had happened over some hours: in truth they took milliseconds."""
    with site.database.write() as session:
        for device in session.scalars(select(Agent.id).where(Agent.kind == "device")).all():
            _spread(session, device)


def _spread(session: Any, agent_id: str) -> None:
    mine = select(Attempt).where(Attempt.agent_id == agent_id, Attempt.finished_at.is_not(None))
    attempts = session.scalars(mine.order_by(Attempt.leased_at)).all()
    begin = datetime.now(UTC) - timedelta(hours=HOURS)
    for number, attempt in enumerate(attempts):
        leased = begin + timedelta(
            hours=HOURS * number / max(1, len(attempts)), seconds=17 * number
        )
        wall = 20 * (attempt.wall_seconds or 3.0)
        session.execute(
            update(Attempt)
            .where(Attempt.id == attempt.id)
            .values(
                leased_at=leased,
                finished_at=leased + timedelta(seconds=wall + 40),
                wall_seconds=None if attempt.wall_seconds is None else wall,
                timed_seconds=None if attempt.timed_seconds is None else 0.6 * wall,
            )
        )
