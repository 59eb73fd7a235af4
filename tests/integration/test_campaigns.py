"""A campaign from its request to a predictor, with an agent that makes its numbers up."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer, cost_ms
from latency_service.app import create_app
from latency_service.lattices.planning import MAX_ROUNDS
from latency_service.lattices.probes import kinds_of, probe_space
from latency_service.lattices.schemas import KindLattice
from latency_service.measurements.schemas import Protocol
from latency_service.settings import Settings
from tests.support.settings import API_TOKEN, SQLITE_ONLY
from tests.support.tiny import tiny_space

Measure = Callable[..., dict[str, Any]]


def test_given_widths_are_measured_and_stored_with_their_rounds(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    campaign = measure([[8, 8], [12, 16], [2, 3]], batch_size=2)
    assert (campaign["phase"], campaign["jobs_total"], campaign["architectures_total"]) == (
        "measuring",
        2,
        3,
    )

    assert agent.work() == 2

    after = api.get(f"/v1/campaigns/{campaign['id']}").json()
    assert (after["state"], after["phase"], after["architectures_measured"]) == ("done", "done", 3)
    rows = api.get("/v1/measurements", params={"campaign_id": campaign["id"]}).json()
    assert sorted(row["widths"] for row in rows) == [[2, 3], [8, 8], [12, 16]]
    one = api.get(f"/v1/measurements/{rows[0]['id']}").json()
    assert len(one["rounds"]) == Protocol().min_rounds
    assert one["summary"]["lower_ms"] <= one["summary"]["latency_ms"] <= one["summary"]["upper_ms"]


def show(api: TestClient, campaign: dict[str, Any]) -> dict[str, Any]:
    return dict(api.get(f"/v1/campaigns/{campaign['id']}").json())


def ask(api: TestClient, space_id: str, **more: Any) -> dict[str, Any]:
    body = {
        "space_id": space_id,
        "device": "board",
        "count": 12,
        "repeats": 4,
        "batch_size": 5,
        **more,
    }
    answer = api.post("/v1/campaigns", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def finish_phase(
    api: TestClient, agent: FakeAgent, campaign: dict[str, Any]
) -> list[dict[str, Any]]:
    """Do the jobs of the campaign's present phase; their leases."""
    leases = []
    phase = show(api, campaign)["phase"]
    while show(api, campaign)["phase"] == phase and (lease := agent.claim()) is not None:
        leases.append(lease)
        assert agent.send(lease).status_code == 201
    return leases


def test_first_campaign_of_a_target_finds_its_lattice_and_samples_on_it(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    campaign = ask(api, space_id)
    assert (campaign["phase"], campaign["jobs_total"]) == ("lattice", len(kinds_of(tiny_space())))
    sweeps = finish_phase(api, agent, campaign)
    assert {lease["space_id"] for lease in sweeps} == {
        probe_space(kind).id for kind in kinds_of(tiny_space())
    }
    assert [entry["id"] for entry in api.get("/v1/spaces").json()] == [space_id]

    [lattice] = api.get("/v1/lattices", params={"device": "board"}).json()
    assert lattice["version"] == 1
    assert api.get(f"/v1/lattices/{lattice['id']}").json() == lattice
    assert {kind["step"] for kind in lattice["lattice"]["kinds"]} == {4}

    measuring = show(api, campaign)
    assert (measuring["phase"], measuring["jobs_total"], measuring["architectures_total"]) == (
        "measuring",
        4,
        16,
    )
    leases = finish_phase(api, agent, campaign)
    batches = [[tuple(entry["widths"]) for entry in lease["architectures"]] for lease in leases]
    sampled = [widths for batch in batches for widths in batch]
    assert len(set(sampled)) == 12
    assert all(width % 4 == 0 for widths in sampled for width in widths)
    repeated = [widths for widths, times in Counter(sampled).items() if times == 2]
    assert len(repeated) == 4
    assert all(len(set(batch)) == len(batch) for batch in batches)
    assert show(api, campaign)["phase"] == "training"


def finer_below_64(widths: Sequence[int]) -> float:
    """Smooth where it is narrow, blocks of 4 where it is wide: one coarse round cannot tell where
    it changes.
    """
    return sum(0.05 + 0.01 * w if w < 64 else cost_ms([w]) for w in widths)


def test_sweep_goes_on_in_rounds_until_the_lattice_is_clear(
    api: TestClient, enrolment: str, space_id: str
) -> None:
    agent = FakeAgent(api, enrolment, cost=finer_below_64)
    campaign = ask(api, space_id)
    first = agent.claim()
    assert first is not None
    assert agent.send(first).status_code == 201
    assert show(api, campaign)["phase"] == "lattice", (
        "the coarse round leaves it open where the step changes"
    )
    assert api.get("/v1/lattices").json() == []

    later = finish_phase(api, agent, campaign)
    coarse, *asked = [
        {tuple(e["widths"]) for e in lease["architectures"]} for lease in (first, *later)
    ]
    assert 1 <= len(asked) < MAX_ROUNDS
    assert not coarse & set().union(*asked)
    assert {lease["protocol"]["max_rounds"] for lease in (first, *later)} == {15}
    [row] = api.get("/v1/lattices").json()
    found = KindLattice.model_validate(row["lattice"]["kinds"][0])
    assert (found.kind, found.step, len(found.points)) == (
        "conv3x3",
        4,
        len(coarse) + sum(map(len, asked)),
    )
    assert [w for w in range(40, 80) if found.is_worthwhile(w)] == [*range(40, 65), 68, 72, 76]


@SQLITE_ONLY
def test_service_that_starts_again_goes_on_with_the_sweep(
    api: TestClient, settings: Settings, enrolment: str, space_id: str
) -> None:
    agent = FakeAgent(api, enrolment, cost=finer_below_64)
    campaign = ask(api, space_id)
    lease = agent.claim()
    assert lease is not None
    assert agent.send(lease).status_code == 201
    with TestClient(create_app(settings), headers=bearer(API_TOKEN)) as again:
        agent.http = again
        measured = {tuple(entry["widths"]) for entry in lease["architectures"]}
        later = finish_phase(again, agent, campaign)
        assert not measured & {
            tuple(entry["widths"]) for one in later for entry in one["architectures"]
        }
        assert len(again.get("/v1/lattices").json()) == 1


def test_target_that_changes_between_rounds_is_swept_anew(
    api: TestClient, enrolment: str, space_id: str
) -> None:
    agent = FakeAgent(api, enrolment, cost=finer_below_64)
    campaign = ask(api, space_id)
    first = agent.claim()
    assert first is not None
    assert agent.send(first).status_code == 201
    agent.facts = {"cpu": "another one"}
    agent.cost = cost_ms
    assert len(finish_phase(api, agent, campaign)) == 2, (
        "what it was asked next, and the coarse round again"
    )
    [row] = api.get("/v1/lattices").json()
    found = KindLattice.model_validate(row["lattice"]["kinds"][0])
    assert [w for w in range(40, 80) if found.is_worthwhile(w)] == [*range(40, 80, 4)]


def test_second_campaign_uses_the_lattice_that_is_known(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    finish_phase(api, agent, ask(api, space_id))
    assert ask(api, space_id)["phase"] == "measuring"
    assert ask(api, space_id, runtime={"intra_threads": 2})["phase"] == "lattice"


def test_campaigns_that_begin_together_share_one_sweep(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    first = ask(api, space_id)
    second = ask(api, space_id, seed=1)
    assert (second["phase"], second["jobs_total"]) == ("lattice", 0)
    finish_phase(api, agent, first)
    assert [show(api, campaign)["phase"] for campaign in (first, second)] == [
        "measuring",
        "measuring",
    ]
    assert len(api.get("/v1/lattices").json()) == 1


def test_waiting_campaign_sweeps_itself_when_the_other_is_cancelled(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    first = ask(api, space_id)
    second = ask(api, space_id, seed=1)
    api.post(f"/v1/campaigns/{first['id']}/cancel")
    assert show(api, second)["jobs_total"] == len(kinds_of(tiny_space()))
    finish_phase(api, agent, second)
    assert show(api, second)["phase"] == "measuring"


def test_campaign_goes_on_without_a_few_architectures(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    campaign = ask(api, space_id)
    finish_phase(api, agent, campaign)
    lease = agent.claim()
    assert lease is not None
    agent.fail(lease, "model_invalid")
    finish_phase(api, agent, campaign)
    after = show(api, campaign)
    assert (after["phase"], after["jobs_failed"]) == ("training", 1)


def test_campaign_that_measured_too_little_says_why(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    campaign = ask(api, space_id, repeats=0)
    finish_phase(api, agent, campaign)
    for _ in range(2):
        lease = agent.claim()
        assert lease is not None
        agent.fail(lease, "device_oom", "2 GB were not enough")
    finish_phase(api, agent, campaign)
    after = show(api, campaign)
    assert after["state"] == "failed"
    assert "Only 2 of 12 architectures" in after["failure"]
    assert "2 of 3 jobs failed, the last: device_oom: 2 GB were not enough" in after["failure"]


def test_failed_sweep_fails_its_campaign(api: TestClient, agent: FakeAgent, space_id: str) -> None:
    campaign = ask(api, space_id)
    while (lease := agent.claim()) is not None:
        agent.fail(lease, "unsupported_op", "no such operator")
    after = show(api, campaign)
    assert (after["state"], after["phase"]) == ("failed", "lattice")
    assert "unsupported_op: no such operator" in after["failure"]


def test_unstable_measurements_are_stored_as_such(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    campaign = measure([[8, 8]])
    lease = agent.claim()
    assert lease is not None
    body = agent.result(lease)
    for k, one in enumerate(body["results"][0]["rounds"]):
        one["latency_ms"] *= 1 + 0.5 * (k % 2)
    assert agent.send(lease, body).status_code == 201
    [row] = api.get("/v1/measurements", params={"campaign_id": campaign["id"]}).json()
    assert row["summary"]["verdict"] == "unstable"
    assert row["summary"]["reason"]
    assert show(api, campaign)["state"] == "done"


@pytest.mark.parametrize(("wobble", "state"), [(0.1, "running"), (0.8, "failed")])
def test_a_disturbed_machine_makes_intervals_wider_not_campaigns_fail(
    api: TestClient, agent: FakeAgent, space_id: str, wobble: float, state: str
) -> None:
    """Measurements less precise than asked for are trained on, by their intervals; useless ones are
    not.
    """
    rng = random.Random(0)
    campaign = ask(api, space_id)
    finish_phase(api, agent, campaign)
    while (lease := agent.claim()) is not None:
        body = agent.result(lease)
        for result in body["results"]:
            for one in result["rounds"]:
                one["latency_ms"] *= 1 + wobble * rng.random()
        assert agent.send(lease, body).status_code == 201
    after = show(api, campaign)
    rows = api.get("/v1/measurements", params={"campaign_id": campaign["id"]}).json()
    sampled = [row for row in rows if row["space_id"] == space_id]
    assert {row["summary"]["verdict"] for row in sampled} == {"unstable"}
    assert {row["summary"]["trainable"] for row in sampled} == {state == "running"}
    assert (after["state"], after["phase"]) == (
        state,
        "training" if state == "running" else "measuring",
    )
    if state == "failed":
        assert "16 measurements were too unstable, for example: interval is ±" in after["failure"]


def test_too_old_a_runtime_is_told_at_once(api: TestClient, enrolment: str, space_id: str) -> None:
    FakeAgent(api, enrolment, "old", max_opset=13)
    answer = api.post("/v1/campaigns", json={"space_id": space_id, "device": "old"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "version_mismatch")
    assert "opset 20" in answer.json()["error"]["message"]
    assert "pip install --upgrade onnxruntime" in answer.json()["error"]["cure"]


def test_runtime_that_became_too_old_fails_what_waits(
    api: TestClient, agent: FakeAgent, enrol: Callable[..., str], measure: Measure
) -> None:
    campaign = measure([[8, 8]])
    older = FakeAgent(api, enrol("board"), max_opset=13)
    assert older.claim() is None
    assert show(api, campaign)["state"] == "running", (
        "the newer agent of the device can still run it"
    )
    again = agent.request("POST", "/v1/agents/register", json={**agent.about, "max_opset": 13})
    assert again.status_code == 201
    assert older.claim() is None
    after = show(api, campaign)
    assert after["state"] == "failed"
    assert "version_mismatch: The graph needs ONNX opset 17" in after["failure"]


def test_provider_that_the_device_lacks_is_told(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    body = {
        "space_id": space_id,
        "device": "board",
        "runtime": {"provider": "CUDAExecutionProvider"},
    }
    answer = api.post("/v1/campaigns", json=body)
    assert answer.status_code == 409
    assert (
        "has no CUDAExecutionProvider; it offers CPUExecutionProvider"
        in answer.json()["error"]["message"]
    )


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"purpose": "measure"}, "widths"),
        (
            {"purpose": "measure", "widths": [[8]]},
            "1 widths given for 2 width groups: conv0, conv1",
        ),
        (
            {"purpose": "measure", "widths": [[8, 8], [8, 99]]},
            "width 99 of group 'conv1' is out of range",
        ),
        ({"widths": [[8, 8]]}, "samples its own"),
        ({"seed": -1}, "seed"),
        ({"count": 1}, "count"),
    ],
)
def test_requests_that_cannot_be_meant(
    api: TestClient, agent: FakeAgent, space_id: str, more: dict[str, Any], words: str
) -> None:
    answer = api.post("/v1/campaigns", json={"space_id": space_id, "device": "board", **more})
    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]


def test_campaigns_are_listed_newest_first(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    first = measure([[8, 8]])
    second = measure([[4, 4]])
    api.post(f"/v1/campaigns/{first['id']}/cancel")
    everything = api.get(
        "/v1/campaigns", params={"device": "board", "space_id": first["space_id"][:8]}
    ).json()
    assert [entry["id"] for entry in everything] == [second["id"], first["id"]]
    assert [entry["id"] for entry in api.get("/v1/campaigns?state=cancelled").json()] == [
        first["id"]
    ]
    agent.work()
    assert api.post(f"/v1/campaigns/{second['id']}/cancel").status_code == 409
