"""Commands about devices that are not trusted, and about devices of one class."""

from __future__ import annotations

from latency_service.measurements.schemas import PeerView
from tests.support import views
from tests.support.outcomes import Run
from tests.support.scripted_service import ScriptedService

QUARANTINE = {
    "since": "2026-11-29T10:00:00Z",
    "reason": "its canaries take 2 ms instead of 1 ms",
    "cure": "Cool it.",
}
PEER = PeerView(
    target_id="target-1",
    fingerprint="f" * 64,
    peer_device="twin",
    peer_target_id="target-2",
    canary_percent=[20.5, 21.0],
    architectures=7,
    median_percent=19.25,
    greatest_percent=33.0,
    differs=True,
).model_dump(mode="json")


def test_a_quarantined_device_says_why_and_what_to_do(call: Run, service: ScriptedService) -> None:
    sick = {**views.device(), "quarantine": QUARANTINE}
    service.on("GET /v1/devices?limit=1000&offset=0", [sick])
    service.on("GET /v1/devices/board", sick)
    service.on("GET /v1/devices/board/peers", [])
    listed = call("devices", "list").out.splitlines()
    place = listed[0].split("\t").index("quarantined")
    assert listed[1].split("\t")[place] == "yes"
    shown = call("devices", "show", "board").out
    assert QUARANTINE["reason"] in shown
    assert "Cool it." in shown


def test_a_device_is_quarantined_and_released_by_hand(call: Run, service: ScriptedService) -> None:
    service.on("POST /v1/devices/board/quarantine", {**views.device(), "quarantine": QUARANTINE})
    service.on("POST /v1/devices/board/release", views.device())
    assert QUARANTINE["reason"] in call("devices", "quarantine", "board", "--reason", "hot").out
    assert service.seen[-1].body == {"reason": "hot"}
    assert call("devices", "release", "board").code == 0
    assert call("devices", "release", "board", "--json").json == views.device()


def test_devices_of_one_class_are_compared(call: Run, service: ScriptedService) -> None:
    service.on("GET /v1/devices/board", views.device())
    service.on("GET /v1/devices/board/peers", [PEER])
    for command in ("show", "peers"):
        shown = call("devices", command, "board").out
        assert [words for words in ("twin", "20.5, 21", "19.25", "33") if words not in shown] == []
    assert call("devices", "peers", "board", "--json").json == [PEER]
    service.on("GET /v1/devices/board/peers", [])
    assert "same fingerprint" in call("devices", "peers", "board").err
