"""SIGKILL to agent and service in the middle of a campaign: nothing is lost, nothing doubled, and
it finishes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.support.processes import Part, Served, Stage, is_alive, serve
from tests.support.tiny import campaign_of, tiny_space

# test_storm kills the same parts, more often and at more points
pytestmark = pytest.mark.long

ARCHITECTURES = 32


def start_campaign(service: Served) -> tuple[str, list[list[int]]]:
    space = tiny_space()
    service.api.request("POST", "/v1/spaces", content=space.data)
    request = campaign_of(space, ARCHITECTURES)
    return service.post("/v1/campaigns", request)["id"], request["widths"]


def measured(service: Served, campaign: str) -> int:
    return int(service.get(f"/v1/campaigns/{campaign}")["architectures_measured"])


def measurements(service: Served, campaign: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = service.get("/v1/measurements", campaign_id=campaign, limit=1000)
    return rows


def wait_for(service: Served, campaign: str, count: int) -> None:
    service.stage.eventually(
        lambda: measured(service, campaign) >= count, f"{count} architectures are measured", 60.0
    )


def wait_until_done(service: Served, campaign: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        view: dict[str, Any] = service.get(f"/v1/campaigns/{campaign}")
        return view if view["state"] != "running" else None

    view: dict[str, Any] = service.stage.eventually(ended, "the campaign ends", 90.0)
    assert view["state"] == "done", view["failure"]
    return view


def kill_in_the_middle_of_an_attempt(stage: Stage, agent: Part) -> None:
    """Kill an agent while it has a measuring process of its own, and see that this one ends too."""
    family = stage.eventually(
        lambda: agent.family() if len(agent.family()) > 1 else None, "the agent measures"
    )
    agent.kill()
    stage.eventually(
        lambda: not any(is_alive(pid) for pid in family),
        "the measuring process ends with its agent",
        10.0,
    )


@pytest.mark.slow
def test_a_campaign_survives_the_death_of_agent_and_service(
    stage: Stage, database_url: str
) -> None:
    service = serve(stage, database_url)
    agent = service.agent()
    campaign, widths = start_campaign(service)

    wait_for(service, campaign, 4)
    kill_in_the_middle_of_an_attempt(stage, agent)
    before = {row["id"] for row in measurements(service, campaign)}
    agent.start()

    wait_for(service, campaign, len(before) + 4)
    service.part.kill()
    service.part.start()
    service.wait_ready()

    view = wait_until_done(service, campaign)
    assert view["architectures_measured"] == view["architectures_total"] == ARCHITECTURES
    assert view["jobs_failed"] == 0
    rows = measurements(service, campaign)
    assert before <= {row["id"] for row in rows}
    counted = Counter(tuple(row["widths"]) for row in rows if row["counted"])
    assert counted == Counter(tuple(vector) for vector in widths)


@pytest.mark.slow
def test_an_agent_that_does_not_come_back_is_replaced_by_another_of_its_device(
    stage: Stage, database_url: str
) -> None:
    service = serve(stage, database_url, LATENCY_SERVICE_LEASE_SECONDS="2")
    first = service.agent("first")
    campaign, widths = start_campaign(service)
    wait_for(service, campaign, 4)
    kill_in_the_middle_of_an_attempt(stage, first)
    service.agent("second")
    wait_until_done(service, campaign)
    counted = Counter(
        tuple(row["widths"]) for row in measurements(service, campaign) if row["counted"]
    )
    assert counted == Counter(tuple(vector) for vector in widths)
    agents = {agent["id"] for agent in service.get("/v1/devices/board")["agents"]}
    assert len(agents) == 2
