"""Devices that are not trusted: what they are given, and how they come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from latency_service.agent.testing import FLOOR_MS, FakeAgent
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.jobs.models import Job
from latency_service.settings import Settings
from tests.support.verifications import delivered, upload, verify

Measure = Callable[..., dict[str, Any]]
CHECK_SECONDS = 600.0


@pytest.fixture
def known(agent: FakeAgent, measure: Measure) -> FakeAgent:
    """An agent whose device has a known speed."""
    measure([[8, 8]])
    agent.work()
    return agent


def do_next(agent: FakeAgent, factor: float) -> list[list[int]] | None:
    """Do the next job on a machine that runs `factor` times as long; its architectures, or None
    where it is given none.
    """
    lease = agent.claim()
    if lease is None:
        return None
    body = agent.result(lease)
    body["calibration"]["floor_ms"] = [factor * ms for ms in FLOOR_MS]
    for result in body["results"]:
        for one in result["rounds"]:
            one["latency_ms"] *= factor
            one["before_ms"] = one["after_ms"] = body["calibration"]["floor_ms"]
    assert agent.send(lease, body).status_code == 201
    return [entry["widths"] for entry in lease["architectures"]]


def shown(api: TestClient, device: str = "board") -> dict[str, Any]:
    return dict(api.get(f"/v1/devices/{device}").json())


def let_time_pass(database: Database, seconds: float = CHECK_SECONDS) -> None:
    with database.write() as session:
        earlier = update(Job).where(Job.stage == "check")
        session.execute(earlier.values(created_at=utcnow(-seconds - 1)))


def test_drift_quarantines_and_recovered_canaries_release(
    api: TestClient, known: FakeAgent, measure: Measure, space_id: str, database: Database
) -> None:
    assert shown(api)["quarantine"] is None
    waiting = measure([[4, 4]])
    assert do_next(known, 1.4) == [[4, 4]]
    found = shown(api)["quarantine"]
    assert "0.14 / 0.56 / 1.26 ms instead of 0.1 / 0.4 / 0.9 ms" in found["reason"]
    assert "latency-service devices release board" in found["cure"]

    waiting = measure([[4, 8]])
    verify(api, space_id, upload(api, delivered()), widths=[12, 8])
    assert do_next(known, 1.4) == [[16, 16]], "a check comes first"
    assert known.claim() is None, "nothing else until the next check is due"
    assert shown(api)["quarantine"] is not None
    let_time_pass(database)
    assert do_next(known, 1.02) == [[16, 16]]
    assert shown(api)["quarantine"] is None
    assert known.work() == 2
    assert api.get(f"/v1/campaigns/{waiting['id']}").json()["state"] == "done"


def test_what_was_measured_meanwhile_is_another_target(
    api: TestClient, known: FakeAgent, measure: Measure
) -> None:
    measure([[4, 4]])
    do_next(known, 1.4)
    do_next(known, 1.4)
    of_target: dict[str, list[list[int]]] = {}
    for row in api.get("/v1/measurements").json():
        of_target.setdefault(row["target_id"], []).append(row["widths"])
    targets = [target["id"] for target in shown(api)["targets"]]
    assert of_target[targets[0]] == [[8, 8]]
    assert sorted(of_target[targets[1]]) == [[4, 4], [16, 16]]


def test_an_admin_accepts_the_new_speed(
    api: TestClient, known: FakeAgent, measure: Measure
) -> None:
    measure([[4, 4]])
    do_next(known, 1.4)
    measure([[4, 8]])
    assert api.post("/v1/devices/board/release").json()["quarantine"] is None
    assert do_next(known, 1.41) == [[4, 8]]
    assert shown(api)["quarantine"] is None


def test_a_device_that_becomes_slow_again_is_quarantined_again(
    api: TestClient, known: FakeAgent, measure: Measure
) -> None:
    for factor, trusted in ((1.4, False), (1.0, True), (1.4, False)):
        measure([[4, 4]])
        do_next(known, factor)
        assert (shown(api)["quarantine"] is None) is trusted, factor


def test_an_admin_quarantines_by_hand_and_canaries_do_not_release(
    api: TestClient, known: FakeAgent, measure: Measure
) -> None:
    measure([[4, 4]])
    answer = api.post("/v1/devices/board/quarantine", json={"reason": "smells of smoke"})
    assert answer.json()["quarantine"]["reason"] == "smells of smoke"
    assert known.claim() is None, "no check either"
    again = api.post("/v1/devices/board/quarantine", json={"reason": "again"})
    assert (again.status_code, "smells of smoke" in again.text) == (409, True)
    assert api.post("/v1/devices/board/release").status_code == 200
    assert known.work() == 1


def test_other_devices_go_on(
    api: TestClient, known: FakeAgent, measure: Measure, enrolment: str
) -> None:
    other = FakeAgent(api, str(api.post("/v1/enrolments").json()["token"]), "other")
    api.post("/v1/devices/board/quarantine", json={"reason": "sick"})
    measure([[4, 4]], device="other")
    assert other.work() == 1


def test_unknown_devices_and_empty_reasons_are_refused(api: TestClient, known: FakeAgent) -> None:
    for action, body in (("quarantine", {"reason": "x"}), ("release", None)):
        assert api.post(f"/v1/devices/none/{action}", json=body).status_code == 404
    assert api.post("/v1/devices/board/quarantine", json={"reason": ""}).status_code == 422


class TestSwitchedOff:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"quarantine": False})

    def test_drift_is_work_as_usual(
        self, api: TestClient, known: FakeAgent, measure: Measure
    ) -> None:
        measure([[4, 4]])
        do_next(known, 1.4)
        assert shown(api)["quarantine"] is None


def test_two_boards_of_one_class_are_compared(
    api: TestClient, known: FakeAgent, measure: Measure
) -> None:
    twin = FakeAgent(api, str(api.post("/v1/enrolments").json()["token"]), "twin")
    assert api.get("/v1/devices/board/peers").json() == []
    measure([[8, 8], [4, 4]], device="twin")
    do_next(twin, 1.2)
    measure([[4, 4], [12, 12]])
    known.work()
    [peer] = api.get("/v1/devices/twin/peers").json()
    assert (peer["peer_device"], peer["architectures"]) == ("board", 2)
    assert peer["canary_percent"] == pytest.approx([20, 20, 20])
    assert peer["median_percent"] == pytest.approx(20, abs=0.5)
    assert peer["differs"] is True
    [mirrored] = api.get("/v1/devices/board/peers").json()
    assert mirrored["median_percent"] == pytest.approx(-100 / 6, abs=0.5)


def test_machines_of_other_classes_are_not_compared(
    api: TestClient, known: FakeAgent, measure: Measure
) -> None:
    token = str(api.post("/v1/enrolments").json()["token"])
    other = FakeAgent(api, token, "other", facts={"cpu": "another"})
    measure([[8, 8]], device="other")
    other.work()
    assert api.get("/v1/devices/other/peers").json() == []
