"""A campaign from its request to a predictor, with an agent that makes its numbers up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

from tests.integration.fake_agent import FakeAgent

Measure = Callable[..., dict[str, Any]]


def test_given_widths_are_measured_and_stored_with_their_rounds(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    campaign = measure([[8, 8], [12, 16], [2, 3]], batch_size=2)
    assert (campaign["phase"], campaign["jobs_total"], campaign["architectures_total"]) == ("measuring", 2, 3)

    assert agent.work() == 2

    after = api.get(f"/v1/campaigns/{campaign['id']}").json()
    assert (after["state"], after["phase"], after["architectures_measured"]) == ("done", "done", 3)
    rows = api.get("/v1/measurements", params={"campaign_id": campaign["id"]}).json()
    assert sorted(row["widths"] for row in rows) == [[2, 3], [8, 8], [12, 16]]
    one = api.get(f"/v1/measurements/{rows[0]['id']}").json()
    assert len(one["rounds"]) == 9
    assert one["summary"]["lower_ms"] <= one["summary"]["latency_ms"] <= one["summary"]["upper_ms"]
