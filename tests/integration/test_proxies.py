"""The service behind a reverse proxy: under a path of its own, with compressed bodies."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.app import create_app
from latency_service.core.client import Client
from latency_service.settings import Settings
from tests.support.databases import Clone
from tests.support.processes import API_TOKEN, Served, Stage, serve
from tests.support.proxy import Proxy
from tests.support.settings import API_TOKEN as TEST_TOKEN
from tests.support.tiny import campaign_of, tiny_space

GZIP = {"content-type": "application/json", "content-encoding": "gzip"}


@pytest.fixture(scope="module")
def under_a_path(tmp_path_factory: pytest.TempPathFactory, clone_sqlite: Clone) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("proxies")
    stage = Stage(folder, folder / "calibrations")
    yield serve(stage, clone_sqlite(True), LATENCY_SERVICE_ROOT_PATH="/latency")
    stage.close()


@pytest.mark.parametrize("cut_prefix", [True, False], ids=["path cut off", "path kept"])
def test_clients_and_agents_work_under_a_path(under_a_path: Served, cut_prefix: bool) -> None:
    proxy = Proxy(under_a_path.url, prefix="/latency", cut_prefix=cut_prefix)
    device = f"board-{cut_prefix}"
    try:
        with (
            Client(proxy.url, API_TOKEN) as client,
            httpx2.Client(base_url=proxy.url, headers=bearer(API_TOKEN), timeout=30) as http,
        ):
            agent = FakeAgent(http, client.create_enrolment().token, device)
            space = tiny_space()
            client.create_space(space)
            answer = http.post("/v1/campaigns", json=campaign_of(space, 3, device=device))
            assert answer.status_code == 201, answer.text
            assert agent.work() >= 1
            assert len(client.measurements(device=device)) >= 3
            assert client.space(client.spaces()[0].id).data == space.data
            # the pages of the API's documentation ask for their description under the same path
            assert "/latency/openapi.json" in http.get("/docs").text
            assert http.get("/openapi.json").json()["servers"] == [{"url": "/latency"}]
    finally:
        proxy.close()


@pytest.mark.parametrize(("source", "last"), [("127.0.0.1", 429), ("127.0.0.2", 401)])
def test_only_the_named_proxy_says_who_a_client_is(
    source: str, last: int, tmp_path: Path, clone_sqlite: Clone
) -> None:
    """Whoever else names another client with each guess stays under the limit of one address."""
    stage = Stage(tmp_path, tmp_path / "calibrations")
    try:
        service = serve(
            stage,
            clone_sqlite(True),
            LATENCY_SERVICE_TRUSTED_PROXIES="127.0.0.2",
            LATENCY_SERVICE_REFUSALS_PER_SECOND="0.1",
            LATENCY_SERVICE_REFUSALS_BURST="5",
        )
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address=source)) as http:
            statuses = [
                http.get(
                    f"{service.url}/v1/devices", headers={"x-forwarded-for": f"198.51.100.{k}"}
                ).status_code
                for k in range(10)
            ]
    finally:
        stage.close()
    assert (statuses[0], statuses[-1]) == (401, last)


@pytest.fixture
def small(clone_sqlite: Clone, tmp_path: Path) -> Iterator[TestClient]:
    """A service that takes results of at most 10,000 bytes."""
    settings = Settings(
        database_url=clone_sqlite(True),
        data_dir=tmp_path,
        api_token=TEST_TOKEN,
        max_result_bytes=10_000,
    )
    with TestClient(create_app(settings), headers=bearer(TEST_TOKEN)) as client:
        yield client


def test_a_compressed_result_counts_like_a_plain_one(small: TestClient) -> None:
    agent = FakeAgent(small, str(small.post("/v1/enrolments").json()["token"]))
    small.post("/v1/spaces", content=tiny_space().data)
    assert small.post("/v1/campaigns", json=campaign_of(tiny_space(), 1)).status_code == 201
    lease = agent.claim()
    assert lease is not None
    path = f"/v1/attempts/{lease['attempt_id']}/result"
    plain = small.build_request("PUT", path, json=agent.result(lease)).content
    headers = bearer(agent.token)
    sent = small.put(path, content=gzip.compress(plain), headers={**GZIP, **headers})
    assert sent.status_code == 201, sent.text
    again = agent.send(lease)
    assert again.json()["outcome"] == "repeated"


def test_only_results_are_taken_compressed(small: TestClient) -> None:
    for path in ("/v1/runs", "/v1/campaigns", "/v1/spaces"):
        answer = small.post(path, content=gzip.compress(b"{}"), headers=GZIP)
        assert answer.status_code == 415, path
        assert "'gzip' is not taken here" in answer.json()["error"]["message"]
