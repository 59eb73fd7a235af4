"""Only a predictor of the very target is used."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from latency_service.core.client import Client
from latency_service.core.transport import ApiError
from latency_service.devices.schemas import RuntimeConfig
from pruning_client.errors import Missing, PredictorRefused, UsageError
from pruning_client.service.campaign import Campaign
from pruning_client.service.lookup import (
    PredictorQuery,
    find_named,
    find_predictor,
    need_predictor,
)
from tests.support import analytic
from tests.support.predictor_service import PredictorService

VIEW = analytic.view(analytic.sidecar_of([8, 8], [[4, 8], [4, 8]]))
QUERY = PredictorQuery(
    space_id=VIEW.space_id, device="board", runtime=RuntimeConfig(), target_id=VIEW.target_id
)


@pytest.mark.parametrize(
    ("view", "asked", "reason"),
    [
        ({"stale": True}, {}, "it is stale"),
        (
            {},
            {"runtime": RuntimeConfig(intra_threads=2)},
            "CPUExecutionProvider/t1/b1/fp32, not .*/t2/",
        ),
        (
            {},
            {"runtime": RuntimeConfig(provider="CUDAExecutionProvider")},
            "not CUDAExecutionProvider",
        ),
        ({}, {"device": "phone"}, "of the device 'board', not 'phone'"),
        ({}, {"space_id": "6" * 64}, "another network"),
        ({}, {"target_id": "target-2"}, "fingerprint"),
    ],
)
def test_refused(
    service: PredictorService, client: Client, view: Any, asked: Any, reason: str
) -> None:
    service.on("GET /v1/predictors/p", VIEW.model_copy(update=view).model_dump(mode="json"))
    with pytest.raises(PredictorRefused, match=reason) as caught:
        find_named(client, "p", replace(QUERY, **asked))
    assert caught.value.exit_code == 8


def test_the_right_one_is_taken(service: PredictorService, client: Client) -> None:
    service.on("GET /v1/predictors/p", VIEW.model_dump(mode="json"))
    assert find_named(client, "p", QUERY) == VIEW


def test_stale_ones_are_passed_over(service: PredictorService, client: Client) -> None:
    stale = VIEW.model_copy(update={"stale": True})
    other = VIEW.model_copy(update={"target_id": "target-2"})
    service.on(
        "GET /v1/predictors", [view.model_dump(mode="json") for view in (stale, other, VIEW)]
    )
    found = find_predictor(client, QUERY)
    assert found == VIEW
    service.on("GET /v1/predictors", [stale.model_dump(mode="json")])
    assert find_predictor(client, QUERY) is None


@pytest.mark.parametrize(
    ("known", "cure"), [([], "--device board`"), ([{"stale": True}], "--repair`")]
)
def test_where_no_campaign_may_be_started_the_cure_is_the_shortest_one(
    service: PredictorService, client: Client, known: list[Any], cure: str
) -> None:
    service.on(
        "GET /v1/predictors",
        [VIEW.model_copy(update=view).model_dump(mode="json") for view in known],
    )
    with pytest.raises(Missing) as caught:
        need_predictor(
            client,
            QUERY,
            Campaign(allowed=False),
            seed=0,
            progress=lambda step: None,
        )
    assert cure in caught.value.cure


def test_the_campaign_ends_where_the_caller_says(service: PredictorService, client: Client) -> None:
    service.on("GET /v1/predictors", [])
    service.on("GET /v1/campaigns", [])
    service.refuse("POST /v1/campaigns", 400, "bad_request")
    campaign = Campaign(architectures=90, repeats=9, error_goal=2.5)
    with pytest.raises(ApiError, match="The cause"):
        need_predictor(client, QUERY, campaign, seed=3, progress=lambda step: None)
    (asked,) = (json.loads(one.content) for one in service.seen if one.method == "POST")
    given = {name: asked[name] for name in ("count", "repeats", "goal_percent", "seed")}
    assert given == {"count": 90, "repeats": 9, "goal_percent": 2.5, "seed": 3}


@pytest.mark.parametrize("goal", [0, -1.0, 101, float("nan")])
def test_a_goal_that_is_no_percentage_is_refused(goal: float) -> None:
    with pytest.raises(UsageError, match="is no percentage"):
        Campaign(error_goal=goal)
