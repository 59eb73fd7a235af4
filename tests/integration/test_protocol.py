"""The lease protocol over HTTP: who gets what, and every row of the table of results."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from latency_service.agent.testing import FakeAgent
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.jobs.models import Attempt
from latency_service.measurements.models import Measurement

Measure = Callable[..., dict[str, Any]]
Lease = dict[str, Any]


@pytest.fixture
def second(api: TestClient, agent: FakeAgent, enrol: Callable[..., str]) -> FakeAgent:
    """Another agent of the same device."""
    return FakeAgent(api, enrol("board"))


def run_out(database: Database, lease: Lease) -> None:
    """The lease's time is over."""
    with database.write() as session:
        session.execute(
            update(Attempt).where(Attempt.id == lease["attempt_id"]).values(expires_at=utcnow(-1))
        )


def claimed(agent: FakeAgent) -> Lease:
    lease = agent.claim()
    assert lease is not None
    return lease


def commanded(agent: FakeAgent, beat: dict[str, Any]) -> str:
    """What the service answers to a heartbeat."""
    return str(agent.request("POST", "/v1/agents/me/heartbeat", json=beat).json()["command"])


def job(api: TestClient, lease: Lease) -> dict[str, Any]:
    return dict(api.get(f"/v1/jobs/{lease['job_id']}").json())


def stored(database: Database, lease: Lease) -> list[bool]:
    """The `counted` flag of every measurement of the lease's job."""
    with database.read() as session:
        return sorted(
            session.scalars(
                select(Measurement.counted).where(Measurement.job_id == lease["job_id"])
            )
        )


def test_lease_tells_all_that_an_agent_needs(
    agent: FakeAgent, measure: Measure, space_id: str
) -> None:
    measure([[8, 8], [12, 16]], runtime={"intra_threads": 2}, seed=7)
    lease = claimed(agent)
    assert lease["architectures"] == [
        {"index": 0, "widths": [8, 8]},
        {"index": 1, "widths": [12, 16]},
    ]
    assert (lease["kind"], lease["number"], lease["space_id"], lease["opset"]) == (
        "measure",
        1,
        space_id,
        17,
    )
    assert (lease["lease_seconds"], lease["renew_seconds"], lease["seed"]) == (60.0, 20.0, 7)
    assert lease["runtime"]["intra_threads"] == 2
    graph = agent.request("GET", f"/v1/spaces/{space_id}/graph.onnx")
    assert graph.status_code == 200
    assert "immutable" in graph.headers["cache-control"]


def test_nothing_to_do_is_204_after_the_wait(agent: FakeAgent) -> None:
    assert agent.claim(wait=0.1) is None


def test_jobs_belong_to_their_device(
    api: TestClient, agent: FakeAgent, enrol: Callable[..., str], measure: Measure
) -> None:
    measure([[8, 8]])
    assert FakeAgent(api, enrol(), "elsewhere").claim() is None
    assert agent.claim() is not None


def test_result_for_an_open_attempt_is_accepted(
    api: TestClient, database: Database, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8], [4, 4]])
    lease = claimed(agent)
    answer = agent.send(lease)
    assert (answer.status_code, answer.json()["outcome"]) == (201, "accepted")
    assert job(api, lease)["state"] == "done"
    assert job(api, lease)["result"] == {"measurement_ids": answer.json()["measurement_ids"]}
    assert stored(database, lease) == [True, True]


def test_the_same_result_again_stores_nothing_new(
    database: Database, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    lease = claimed(agent)
    first = agent.send(lease)
    again = agent.send(lease)
    assert (again.status_code, again.json()["outcome"]) == (200, "repeated")
    assert again.json()["measurement_ids"] == first.json()["measurement_ids"]
    assert stored(database, lease) == [True]


def test_another_result_for_the_same_attempt_is_refused_and_logged(
    database: Database, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    lease = claimed(agent)
    agent.send(lease)
    with capture_logs() as logs:
        answer = agent.send(lease, agent.result(lease, scale=2.0))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "another_digest")
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["security_event"]
    assert stored(database, lease) == [True]


@pytest.mark.parametrize("swept", [False, True])
def test_late_result_of_an_open_job_is_kept(
    api: TestClient,
    database: Database,
    agent: FakeAgent,
    second: FakeAgent,
    measure: Measure,
    swept: bool,
) -> None:
    measure([[8, 8]])
    lease = claimed(agent)
    run_out(database, lease)
    newer = claimed(second) if swept else None
    answer = agent.send(lease)
    assert (answer.status_code, answer.json()["outcome"]) == (200, "late")
    assert stored(database, lease) == [True]
    assert job(api, lease)["state"] == "done"
    if newer is not None:
        assert newer["number"] == 2
        assert second.renew(newer).status_code == 410
        assert [attempt["state"] for attempt in job(api, lease)["attempts"]] == [
            "late",
            "cancelled",
        ]


def test_result_for_a_job_that_another_attempt_finished_is_an_extra_repeat(
    api: TestClient, database: Database, agent: FakeAgent, second: FakeAgent, measure: Measure
) -> None:
    campaign = measure([[8, 8]])
    lease = claimed(agent)
    run_out(database, lease)
    assert second.send(claimed(second)).status_code == 201
    answer = agent.send(lease)
    assert (answer.status_code, answer.json()["outcome"]) == (200, "superseded")
    assert stored(database, lease) == [False, True]
    assert api.get(f"/v1/campaigns/{campaign['id']}").json()["architectures_measured"] == 1


def test_cancelled_newer_attempt_still_gives_an_extra_repeat(
    database: Database, agent: FakeAgent, second: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    lease = claimed(agent)
    run_out(database, lease)
    newer = claimed(second)
    agent.send(lease)
    assert second.send(newer).json()["outcome"] == "superseded"
    assert stored(database, lease) == [False, True]


def test_late_result_revives_a_job_whose_agents_were_all_lost(
    api: TestClient, database: Database, agent: FakeAgent, measure: Measure
) -> None:
    campaign = measure([[8, 8]])
    leases = []
    for _ in range(3):
        leases.append(claimed(agent))
        run_out(database, leases[-1])
    assert agent.claim() is None
    assert job(api, leases[0])["failure"]["kind"] == "agent_lost"
    assert api.get(f"/v1/campaigns/{campaign['id']}").json()["state"] == "failed"
    assert agent.send(leases[1]).json()["outcome"] == "late"
    assert job(api, leases[0])["state"] == "done"
    assert job(api, leases[0])["failure"] is None


def test_another_agents_attempt_is_not_there(
    database: Database, agent: FakeAgent, second: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    lease = claimed(agent)
    assert second.send(lease, agent.result(lease)).status_code == 404
    assert second.renew(lease).status_code == 404
    assert second.fail(lease, "internal").status_code == 404
    assert stored(database, lease) == []


def test_renewal_prolongs_the_lease(
    database: Database, agent: FakeAgent, second: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    lease = claimed(agent)
    run_out(database, lease)
    assert agent.renew(lease).json() == {"lease_seconds": 60.0}
    assert second.claim() is None


def test_lost_lease_cannot_be_renewed(
    database: Database, agent: FakeAgent, second: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    lease = claimed(agent)
    run_out(database, lease)
    claimed(second)
    answer = agent.renew(lease)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "lost")


def test_restarted_agent_gets_its_job_again_at_once(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    first = claimed(agent)
    second = claimed(agent)
    assert (second["job_id"], second["number"]) == (first["job_id"], 2)
    attempts = job(api, first)["attempts"]
    assert [(attempt["state"], attempt["failure_kind"]) for attempt in attempts] == [
        ("expired", "agent_lost"),
        ("open", None),
    ]


def test_registering_again_ends_what_the_device_was_doing(
    api: TestClient, agent: FakeAgent, enrol: Callable[..., str], measure: Measure
) -> None:
    measure([[8, 8]])
    lease = claimed(agent)
    reinstalled = FakeAgent(api, enrol("board"))
    assert claimed(reinstalled)["job_id"] == lease["job_id"]


def test_agent_registers_again_with_its_own_token(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    lease = claimed(agent)
    answer = agent.request(
        "POST", "/v1/agents/register", json={**agent.about, "runtime_version": "1.99.0"}
    )
    assert (answer.json()["agent_id"], answer.json()["agent_token"]) == (agent.id, agent.token)
    [shown] = api.get("/v1/devices/board").json()["agents"]
    assert shown["runtime_version"] == "1.99.0"
    assert agent.renew(lease).status_code == 409
    other = agent.request("POST", "/v1/agents/register", json={**agent.about, "device": "other"})
    assert other.status_code == 409


def test_retryable_failure_is_tried_three_times(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    campaign = measure([[8, 8]])
    for number in (1, 2, 3):
        lease = claimed(agent)
        assert lease["number"] == number
        assert agent.fail(lease, "runtime_crash", "signal 11").status_code == 200
        assert agent.fail(lease, "runtime_crash", "signal 11").status_code == 200
    assert agent.claim() is None
    shown = job(api, lease)
    assert (shown["state"], shown["failure"]["kind"], shown["failure"]["message"]) == (
        "failed",
        "runtime_crash",
        "signal 11",
    )
    failed = api.get(f"/v1/campaigns/{campaign['id']}").json()
    assert failed["state"] == "failed"
    assert "runtime_crash: signal 11" in failed["failure"]


def test_permanent_failure_is_tried_once(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    lease = claimed(agent)
    agent.fail(lease, "unsupported_op")
    assert agent.claim() is None
    assert job(api, lease)["state"] == "failed"


def test_result_after_giving_up_is_refused(
    database: Database, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    lease = claimed(agent)
    agent.fail(lease, "runtime_crash")
    assert agent.send(lease).status_code == 409
    assert stored(database, lease) == []


def test_cancelled_campaign_stops_its_agents(
    api: TestClient, database: Database, agent: FakeAgent, measure: Measure
) -> None:
    campaign = measure([[8, 8], [4, 4]], batch_size=1)
    lease = claimed(agent)
    beat = {"state": "measuring", "attempt_id": lease["attempt_id"]}
    assert commanded(agent, beat) == "continue"
    assert api.post(f"/v1/campaigns/{campaign['id']}/cancel").json()["state"] == "cancelled"
    assert api.post(f"/v1/campaigns/{campaign['id']}/cancel").status_code == 200
    assert commanded(agent, beat) == "cancel"
    assert agent.renew(lease).status_code == 410
    assert agent.send(lease).status_code == 410
    assert stored(database, lease) == []
    assert agent.claim() is None


def spoil_runtime(body: dict[str, Any]) -> None:
    body["fingerprint"]["runtime"]["intra_threads"] = 4


def spoil_indices(body: dict[str, Any]) -> None:
    body["results"][1]["index"] = 0


def spoil_count(body: dict[str, Any]) -> None:
    body["results"].pop()


def spoil_canaries(body: dict[str, Any]) -> None:
    body["results"][0]["rounds"][0]["before_ms"] = [0.1]


def spoil_calibration(body: dict[str, Any]) -> None:
    """Nothing that interference would show in."""
    body["calibration"] |= {"canaries": [], "floor_ms": [], "reference_ms": None}
    for one in (each for result in body["results"] for each in result["rounds"]):
        one |= {"before_ms": [], "after_ms": [], "reference_ms": None}


@pytest.mark.parametrize(
    "spoil", [spoil_runtime, spoil_indices, spoil_count, spoil_canaries, spoil_calibration]
)
def test_result_that_does_not_fit_its_lease_is_refused(
    database: Database, agent: FakeAgent, measure: Measure, spoil: Callable[[dict[str, Any]], None]
) -> None:
    measure([[8, 8], [4, 4]])
    lease = claimed(agent)
    body = agent.result(lease)
    spoil(body)
    answer = agent.send(lease, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_request")
    assert stored(database, lease) == []
    assert agent.send(lease).status_code == 201


@pytest.mark.parametrize("latency_ms", ["NaN", "Infinity", "0", "-1", "1e308", "1e-320"])
@pytest.mark.parametrize("field", ["latency_ms", "before_ms", "reference_ms", "floor_ms"])
def test_a_latency_that_no_device_has_is_refused(
    database: Database, agent: FakeAgent, measure: Measure, field: str, latency_ms: str
) -> None:
    measure([[8, 8]])
    lease = claimed(agent)
    body = agent.result(lease)
    first = body["results"][0]["rounds"][0]
    changed = body["calibration"] if field == "floor_ms" else first
    lengths = {"latency_ms": None, "reference_ms": 2}
    length = lengths.get(field, len(body["calibration"]["canaries"]))
    changed[field] = 777.25 if length is None else [777.25] * length
    answer = agent.request(
        "PUT",
        f"/v1/attempts/{lease['attempt_id']}/result",
        content=json.dumps(body).replace("777.25", latency_ms),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 422
    assert stored(database, lease) == []
