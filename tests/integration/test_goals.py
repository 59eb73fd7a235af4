"""Campaigns by goal, around a point, within a time, and to repair."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, cost_ms
from latency_service.campaigns.models import Campaign
from latency_service.campaigns.planning import FIRST, FOLLOWING
from latency_service.db.engine import Database
from latency_service.devices import repository as devices_repository
from latency_service.jobs import endings
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs import service as jobs_service
from latency_service.jobs.models import Job
from latency_service.predictors import service as predictors_service
from tests.support import fake_predictor
from tests.support.settings import SQLITE_ONLY


def ask(api: TestClient, space_id: str, **more: Any) -> Any:
    return api.post("/v1/campaigns", json={"space_id": space_id, "device": "board", **more})


def start(api: TestClient, space_id: str, **more: Any) -> dict[str, Any]:
    answer = ask(api, space_id, **more)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def show(api: TestClient, campaign: dict[str, Any]) -> dict[str, Any]:
    return dict(api.get(f"/v1/campaigns/{campaign['id']}").json())


def train(database: Database, mape: float, measurements: int = 100) -> None:
    """End the training that waits as a trainer would whose predictor has that held-out error."""
    with database.write() as session:
        job = session.scalars(select(Job).where(Job.kind == "train", Job.state == "queued")).one()
        assert job.space_id is not None
        told = {"mape": mape, "measurements": measurements}
        sidecar = fake_predictor.sidecar(job.space_id, "f" * 64).model_copy(update=told)
        predictors_service.publish(session, job, fake_predictor.artifact(), sidecar)
        facts = jobs_repository.lock_job(session, job.id)
        endings.end_job(session, job.id, "done")
        jobs_service.announce_end(session, facts, "done")


def measured(api: TestClient, campaign: dict[str, Any]) -> set[tuple[int, ...]]:
    rows = api.get("/v1/measurements", params={"campaign_id": campaign["id"], "limit": 1000}).json()
    return {tuple(row["widths"]) for row in rows if row["space_id"] == campaign["space_id"]}


@pytest.fixture
def agent(api: TestClient, enrolment: str) -> FakeAgent:
    """A machine without steps: every width is worth using, so that there are many architectures."""
    return FakeAgent(api, enrolment, cost=lambda widths: 0.05 + 0.01 * sum(widths))


def age(database: Database, campaign: dict[str, Any], seconds: float) -> None:
    with database.write() as session:
        row = session.get_one(Campaign, campaign["id"])
        row.created_at = devices_repository.now(session) - timedelta(seconds=seconds)


def test_rounds_go_on_until_the_goal_is_surely_reached(
    api: TestClient, agent: FakeAgent, space_id: str, database: Database
) -> None:
    campaign = start(api, space_id, goal_percent=3, repeats=2)
    assert (campaign["goal_percent"], campaign["goal_met"], campaign["rounds"]) == (3, None, [])
    seen = 0
    for mape, phase in ((8.0, "measuring"), (2.9, "measuring"), (2.5, "done")):
        agent.work()
        distinct = len(measured(api, campaign))
        assert distinct - seen == (FOLLOWING if seen else FIRST), (
            "no architecture is measured in two rounds"
        )
        seen = distinct
        assert show(api, campaign)["phase"] == "training"
        train(database, mape)
        assert show(api, campaign)["phase"] == phase
    after = show(api, campaign)
    assert [one["error_percent"] for one in after["rounds"]] == [8.0, 2.9, 2.5]
    assert (
        after["rounds"][1]["error_at_most_percent"]
        > 3
        >= after["rounds"][2]["error_at_most_percent"]
    )
    assert (after["state"], after["goal_met"]) == ("done", True)
    versions = {row["id"]: row["version"] for row in api.get("/v1/predictors").json()}
    assert versions[after["predictor_id"]] == 3


def test_a_goal_goes_on_from_the_predictor_that_there_is(
    api: TestClient, agent: FakeAgent, space_id: str, database: Database
) -> None:
    before = start(api, space_id, count=60, repeats=0)
    agent.work()
    train(database, 5.0)
    after = start(api, space_id, goal_percent=3, repeats=0)
    agent.work()
    assert len(measured(api, after)) == FIRST
    assert not measured(api, after) & measured(api, before), (
        "what is measured is not measured again"
    )
    cancelled = api.post(f"/v1/campaigns/{after['id']}/cancel")
    assert cancelled.status_code == 200
    near = start(api, space_id, goal_percent=3, around=[8, 8], repeats=0)
    agent.work()
    assert all(max(abs(a - 8), abs(b - 8)) <= 2 for a, b in measured(api, near))


def test_rounds_end_when_the_count_is_reached(
    api: TestClient, agent: FakeAgent, space_id: str, database: Database
) -> None:
    campaign = start(api, space_id, goal_percent=1, count=60, repeats=0)
    for phase in ("measuring", "done"):
        agent.work()
        train(database, 5.0)
        assert show(api, campaign)["phase"] == phase
    assert len(measured(api, campaign)) == 60
    assert show(api, campaign)["goal_met"] is False


def test_rounds_end_when_the_time_is_spent(
    api: TestClient, agent: FakeAgent, space_id: str, database: Database
) -> None:
    campaign = start(api, space_id, goal_percent=1, at_most_seconds=600, repeats=0)
    agent.work()
    age(database, campaign, 590)
    train(database, 5.0)
    after = show(api, campaign)
    assert (after["state"], after["goal_met"], len(after["rounds"])) == ("done", False, 1)


def test_what_waits_is_dropped_when_the_time_is_spent(
    api: TestClient, agent: FakeAgent, space_id: str, database: Database
) -> None:
    campaign = start(api, space_id, at_most_seconds=600, batch_size=8, count=60, repeats=0)
    assert campaign["goal_percent"] is None
    while show(api, campaign)["phase"] == "lattice":
        lease = agent.claim()
        assert lease is not None
        agent.send(lease)
    age(database, campaign, 590)
    for done in (8, 16):
        lease = agent.claim()
        assert lease is not None
        agent.send(lease)
        assert len(measured(api, campaign)) == done
    after = show(api, campaign)
    assert after["phase"] == "training", "8 are too few to train on, 16 are enough"
    assert agent.claim() is None


def test_around_a_point(api: TestClient, agent: FakeAgent, space_id: str) -> None:
    campaign = start(api, space_id, around=[8, 12], count=20, repeats=0)
    agent.work()
    first = measured(api, campaign)
    near = {widths for widths in first if abs(widths[0] - 8) <= 2 and abs(widths[1] - 12) <= 2}
    assert 10 <= len(near) < len(first), "half near the point, half all over, as nothing was known"
    api.post(f"/v1/campaigns/{campaign['id']}/cancel")
    start(api, space_id, count=40, repeats=0, seed=3)
    agent.work()
    again = start(api, space_id, around=[8, 12], count=20, repeats=0, seed=5)
    agent.work()
    assert all(abs(a - 8) <= 2 and abs(b - 12) <= 2 for a, b in measured(api, again))


def test_repair_measures_a_few_with_the_lattice_of_before(
    api: TestClient, enrolment: str, space_id: str, database: Database
) -> None:
    agent = FakeAgent(api, enrolment, cost=cost_ms)
    assert ask(api, space_id, repair=True).status_code == 422
    campaign = start(api, space_id, count=14, repeats=0)
    agent.work()
    train(database, 2.0)
    agent.facts = {"cpu": "made up", "onnxruntime": "2"}
    repair = start(api, space_id, repair=True)
    assert (repair["phase"], repair["repair"], repair["architectures_total"]) == (
        "measuring",
        True,
        15 + 2,
    )
    agent.work()
    assert all(width % 4 == 0 for widths in measured(api, repair) for width in widths), (
        "no sweep, the known lattice"
    )
    train(database, 3.0, 15)
    after = show(api, repair)
    assert after["state"] == "done"
    rows = {row["id"]: row for row in api.get("/v1/predictors").json()}
    old = rows[show(api, campaign)["predictor_id"]]
    assert (old["stale"], rows[after["predictor_id"]]["stale"]) == (True, False)
    assert rows[after["predictor_id"]]["version"] == 1, "of another target"
    assert rows[after["predictor_id"]]["cure"] is None
    assert "--repair" in old["cure"]


def test_what_was_measured_before_the_target_changed_is_measured_again(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    campaign = start(api, space_id, count=30, repeats=0, batch_size=10)
    while show(api, campaign)["phase"] == "lattice":
        lease = agent.claim()
        assert lease is not None
        agent.send(lease)
    for facts in ({"cpu": "made up"}, {"cpu": "made up"}, {"cpu": "another"}):
        agent.facts = facts
        lease = agent.claim()
        assert lease is not None
        agent.send(lease)
    after = show(api, campaign)
    assert (after["phase"], after["jobs_total"], after["architectures_total"]) == (
        "measuring",
        5,
        50,
    )
    agent.work()
    assert show(api, campaign)["phase"] == "training"


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"goal_percent": 0}, "goal_percent"),
        ({"at_most_seconds": -1}, "at_most_seconds"),
        ({"around": [8]}, "1 widths given for 2 width groups"),
        ({"around": [8, 99]}, "width 99 of group 'conv1' is out of range"),
        ({"repair": True}, "never had a predictor"),
        ({"purpose": "measure", "widths": [[8, 8]], "goal_percent": 3}, "goal_percent"),
    ],
)
def test_goals_that_cannot_be_meant(
    api: TestClient, agent: FakeAgent, space_id: str, more: dict[str, Any], words: str
) -> None:
    answer = ask(api, space_id, **more)
    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]
