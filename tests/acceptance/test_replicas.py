"""The processes of docker-compose.yml on one PostgreSQL, without containers: migrate, two replicas,
agents.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latency_service.core.transport import Transport
from latency_service.spaces.slicing import SearchSpace
from tests.support.processes import API_TOKEN, Served, Stage, clean_environment, migrate, serve
from tests.support.proxy import Proxy
from tests.support.tiny import QUICK, campaign_of, tiny_space
from tests.support.verifications import delivered

ARCHITECTURES = 24


@pytest.mark.slow
def test_replicas_share_one_queue_and_one_truth(
    stage: Stage, clone_postgres: Callable[[bool], str]
) -> None:
    database_url = clone_postgres(False)
    migrate(stage.folder, database_url)
    one = serve(stage, database_url, "one")
    two = serve(stage, database_url, "two")

    enrolment = stage.folder / "enrolment"
    environment = clean_environment(LATENCY_SERVICE_TOKEN=API_TOKEN)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "latency_service",
            "enrolments",
            "create",
            "--server",
            one.url,
            "--output",
            enrolment,
        ],
        env=environment,
        check=True,
        timeout=30,
    )
    # enrolled at one replica, the device works for the other
    options = (
        "--token-file",
        str(enrolment),
        "--name",
        "local",
        "--state-dir",
        str(stage.state_dir("agent")),
    )
    stage.start("agent", "agent", "--server", two.url, *options)
    stage.eventually(lambda: one.get("/v1/devices/local")["online"], "the device is online")

    space = tiny_space()
    one.api.request("POST", "/v1/spaces", content=space.data)
    campaign = one.post("/v1/campaigns", campaign_of(space, ARCHITECTURES, device="local"))["id"]
    watched = subprocess.run(
        [
            sys.executable,
            "-m",
            "latency_service",
            "campaigns",
            "watch",
            campaign,
            "--server",
            two.url,
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert watched.returncode == 0, watched.stderr + stage.logs()
    assert f"({ARCHITECTURES} architectures)" in watched.stderr
    seen = [
        replica.get("/v1/measurements", campaign_id=campaign, limit=1000) for replica in (one, two)
    ]
    assert seen[0] == seen[1]
    assert set(Counter(tuple(row["widths"]) for row in seen[0] if row["counted"]).values()) == {1}
    assert len(seen[0]) == ARCHITECTURES


@pytest.mark.slow
def test_a_fleet_behind_one_address(stage: Stage, clone_postgres: Callable[[bool], str]) -> None:
    """Two replicas, a trainer and three agents; one replica is killed while they work."""
    database_url = clone_postgres(False)
    migrate(stage.folder, database_url)
    one = serve(stage, database_url, "one")
    two = serve(stage, database_url, "two")
    proxy = Proxy(one.url, two.url, most_bytes=1 << 28)
    stage.open.callback(proxy.close)
    api = stage.open.enter_context(Transport(proxy.url, API_TOKEN, timeout_seconds=70.0))
    front = Served(stage, one.part, proxy.url, api)
    data_dir = str(stage.folder / "trainer")
    stage.start(
        "trainer",
        "trainer",
        LATENCY_SERVICE_DATABASE_URL=database_url,
        LATENCY_SERVICE_DATA_DIR=data_dir,
    )
    boards = ["board-1", "board-2", "board-3"]
    for board in boards:
        front.agent(board, board)

    space = tiny_space()
    api.request("POST", "/v1/spaces", content=space.data)
    measured = [
        front.post("/v1/campaigns", campaign_of(space, ARCHITECTURES, device=board))["id"]
        for board in boards
    ]
    stage.eventually(
        lambda: len(front.get("/v1/measurements", limit=1000)) >= ARCHITECTURES // 2,
        "the boards measure",
        120.0,
    )
    one.part.kill()
    learned = front.post("/v1/campaigns", predictor_campaign(space, boards[0]))["id"]
    for campaign in (*measured, learned):
        stage.eventually(
            lambda campaign=campaign: front.get(f"/v1/campaigns/{campaign}")["state"] == "done",
            f"campaign {campaign} is done",
            300.0,
        )
    [predictor] = front.get("/v1/predictors", device=boards[0])
    assert predictor["sidecar"]["measurements"] >= ARCHITECTURES
    for campaign in measured:
        rows = front.get("/v1/measurements", campaign_id=campaign, limit=1000)
        counted = Counter(tuple(row["widths"]) for row in rows if row["counted"])
        assert set(counted.values()) == {1}
        assert len(counted) == ARCHITECTURES

    file = delivered((12, 8))
    sha256 = hashlib.sha256(file).hexdigest()
    api.request("PUT", f"/v1/models/{sha256}", content=file)
    wanted = {"device": boards[0], "model_sha256": sha256, "space_id": space.id, "widths": [12, 8]}
    job = front.post("/v1/verifications", {**wanted, "protocol": QUICK.model_dump()})["id"]
    stage.eventually(
        lambda: front.get(f"/v1/jobs/{job}")["state"] == "done", "the file is verified", 120.0
    )
    [verified] = front.get(f"/v1/jobs/{job}")["result"]["measurement_ids"]
    assert front.get(f"/v1/measurements/{verified}")["model_sha256"] == sha256


def predictor_campaign(space: SearchSpace, device: str) -> dict[str, Any]:
    return {
        "space_id": space.id,
        "device": device,
        "count": 10,
        "repeats": 0,
        "protocol": QUICK.model_dump(),
    }


@pytest.mark.slow
def test_migrations_at_the_same_time_end_at_the_same_schema(
    tmp_path: Path, empty_database_url: str
) -> None:
    environment = clean_environment(
        LATENCY_SERVICE_DATABASE_URL=empty_database_url, LATENCY_SERVICE_DATA_DIR=str(tmp_path)
    )
    words = [sys.executable, "-m", "latency_service", "db", "upgrade"]
    both = [
        subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(process.communicate(timeout=60)[1], process.returncode) for process in both]
    assert [code for _, code in ended] == [0, 0], ended
