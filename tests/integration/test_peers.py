"""Devices of one class repeat a share of each other's measurements: what a difference leads to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.jobs.models import Job
from latency_service.settings import Settings

Measure = Callable[..., dict[str, Any]]
WIDTHS = [[4, 4], [4, 8], [8, 4], [8, 8], [12, 12], [16, 16]]


class Board(FakeAgent):
    """A board that measures `factor` times as long as others, though its canaries do not tell."""

    factor = 1.0

    def result(self, lease: dict[str, Any], *, scale: float = 1.0) -> dict[str, Any]:
        return super().result(lease, scale=scale * self.factor)


@pytest.fixture
def board(api: TestClient, enrol: Callable[..., str]) -> Callable[[str], Board]:
    """A function that adds a board, which has measured one network already."""

    def add(name: str) -> Board:
        return Board(api, enrol(), name)

    return add


@pytest.fixture
def known(board: Callable[[str], Board], measure: Measure) -> Callable[..., list[Board]]:
    """A function that adds boards of one class, each with a target of its own."""

    def add(*names: str) -> list[Board]:
        made = [board(name) for name in names]
        for one in made:
            measure([[16, 4]], device=one.device)
            assert one.work() == 1
        return made

    return add


def shown(api: TestClient, name: str) -> dict[str, Any]:
    return dict(api.get(f"/v1/devices/{name}").json())


def differs(api: TestClient, name: str) -> dict[str, float]:
    """By how many per cent a device differs from others, by their names."""
    return {
        each["peer_device"]: round(each["median_percent"])
        for each in shown(api, name)["differences"]
    }


def measured(agent: FakeAgent) -> list[list[int]]:
    """The architectures of the next lease, which is carried out; none where there is no work."""
    lease = agent.claim()
    if lease is None:
        return []
    assert agent.send(lease).status_code == 201
    return [entry["widths"] for entry in lease["architectures"]]


def test_a_second_device_repeats_a_share_and_agrees(
    api: TestClient, known: Callable[..., list[Board]], measure: Measure
) -> None:
    first, second = known("first", "second")
    second.factor = 1.05
    campaign = measure(WIDTHS, device="first", peer_repeats=3)
    assert measured(second) == [], "before there is anything to repeat"
    first.work()
    assert api.get(f"/v1/campaigns/{campaign['id']}").json()["state"] == "done"
    repeated = measured(second)
    assert len(repeated) == 3
    assert all(widths in WIDTHS for widths in repeated)
    assert differs(api, "first") == differs(api, "second") == {}
    [peer] = api.get("/v1/devices/second/peers").json()
    assert peer["architectures"] == 4


def test_two_devices_that_differ_are_flagged_and_a_third_shows_which_is_wrong(
    api: TestClient, known: Callable[..., list[Board]], measure: Measure
) -> None:
    first, second = known("first", "second")
    first.factor = 1.3
    measure(WIDTHS, device="first", peer_repeats=4)
    first.work()
    assert len(measured(second)) == 4
    assert differs(api, "first") == {"second": 30}
    assert differs(api, "second") == {"first": -23}
    assert "latency-service devices release first" in shown(api, "first")["differences"][0]["cure"]
    assert "latency_service_devices_differing 2.0" in api.get("/metrics").text
    page = api.get("/devices").text
    assert "its latencies differ by +30 % from those of second" in page
    assert "latency-service devices release first" in page
    assert [shown(api, name)["quarantine"] for name in ("first", "second")] == [None, None]

    (third,) = known("third")
    measure(WIDTHS, device="first", peer_repeats=4)
    first.work()
    assert len(measured(second)) == 4, "the one that differed is asked again first"
    assert len(measured(third)) == 4
    found = shown(api, "first")["quarantine"]
    assert "differ by +30 % from those of" in found["reason"]
    assert "latency-service devices release first" in found["cure"]
    assert [shown(api, name)["quarantine"] for name in ("second", "third")] == [None, None]


@pytest.fixture
def sick(known: Callable[..., list[Board]], measure: Measure) -> list[Board]:
    """Three boards, the second of which was found to lie."""
    first, second, third = known("first", "second", "third")
    second.factor = 0.7
    measure(WIDTHS, device="first", peer_repeats=4)
    for _ in range(2):
        for one in (first, second, third):
            one.work()
    return [first, second, third]


def test_the_device_that_repeats_is_quarantined_where_it_is_the_odd_one(
    api: TestClient, sick: list[Board]
) -> None:
    quarantined = {one.device: shown(api, one.device)["quarantine"] for one in sick}
    assert [name for name, found in quarantined.items() if found] == ["second"]
    assert "differ by -30 % from those of" in api.get("/devices").text
    assert differs(api, "second") == {"first": -30, "third": -30}
    assert differs(api, "third") == {"second": 43}


def test_it_is_released_when_a_check_agrees_with_the_others(
    api: TestClient, sick: list[Board], database: Database
) -> None:
    second = sick[1]
    while second.work():  # checks that still differ
        pass
    assert shown(api, "second")["quarantine"] is not None
    second.factor = 1.0
    with database.write() as session:
        earlier = update(Job).where(Job.stage == "check")
        session.execute(earlier.values(created_at=utcnow(-601)))
    assert len(measured(second)) == 4
    assert shown(api, "second")["quarantine"] is None
    assert differs(api, "second") == {}


def test_an_admin_accepts_a_difference(
    api: TestClient, sick: list[Board], measure: Measure
) -> None:
    answer = api.post("/v1/devices/second/release").json()
    assert (answer["quarantine"], answer["differences"]) == (None, [])
    assert differs(api, "first") == {}
    measure([[8, 8]], device="second")
    assert sick[1].work() == 1


def test_what_differs_is_forgotten_with_the_measurements(
    api: TestClient, sick: list[Board]
) -> None:
    answer = api.delete("/v1/devices/second/measurements", params={"confirm": "second"})
    assert answer.status_code == 200, answer.text
    assert differs(api, "first") == {}


def test_nobody_repeats_without_a_device_of_the_class_that_can(
    api: TestClient, known: Callable[..., list[Board]], enrol: Callable[..., str], measure: Measure
) -> None:
    first, quarantined = known("first", "quarantined")
    api.post("/v1/devices/quarantined/quarantine", json={"reason": "sick"})
    other = FakeAgent(api, enrol(), "other", facts={"cpu": "another"})
    measure([[16, 4]], device="other")
    other.work()
    measure(WIDTHS, device="first", peer_repeats=4)
    first.work()
    api.post("/v1/devices/quarantined/release")
    assert [measured(agent) for agent in (other, quarantined)] == [[], []]


class TestSwitchedOff:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"quarantine": False})

    def test_devices_are_flagged_and_go_on(self, api: TestClient, sick: list[Board]) -> None:
        assert differs(api, "second") == {"first": -30, "third": -30}
        assert shown(api, "second")["quarantine"] is None
