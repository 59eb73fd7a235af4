"""The processes of docker-compose.yml on one PostgreSQL, without containers: migrate, two replicas,
agents.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import API_TOKEN, Stage, clean_environment, migrate, serve
from tests.support.tiny import campaign_of, tiny_space

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
    assert f"{ARCHITECTURES}/{ARCHITECTURES} architectures" in watched.stderr
    seen = [
        replica.get("/v1/measurements", campaign_id=campaign, limit=1000) for replica in (one, two)
    ]
    assert seen[0] == seen[1]
    assert set(Counter(tuple(row["widths"]) for row in seen[0] if row["counted"]).values()) == {1}
    assert len(seen[0]) == ARCHITECTURES


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
