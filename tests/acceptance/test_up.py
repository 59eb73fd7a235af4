"""`latency-service up`: the embedded whole starts, answers, survives the death of a part, and
leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from latency_service.core.transport import Transport
from tests.support.processes import IMPATIENT, Stage, clean_environment, is_alive

READY_SECONDS = 25.0
STOP_SECONDS = 10.0


@dataclass
class Up:
    process: subprocess.Popen[str]
    ready: dict[str, Any]
    api: Transport

    def family(self) -> dict[int, str]:
        """Process ids of all that it started, with the part of each that is a child of its own."""
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):  # it has just ended
                words = child.cmdline()
                found[child.pid] = words[3] if words[1:3] == ["-m", "latency_service"] else "other"
        return found


def up(folder: Path, *options: str) -> subprocess.Popen[str]:
    words = [
        sys.executable,
        "-m",
        "latency_service",
        "up",
        "--data-dir",
        str(folder),
        "--json",
        *options,
    ]
    return subprocess.Popen(
        words,
        env=clean_environment(**IMPATIENT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def running(tmp_path: Path, stage: Stage) -> Iterator[Up]:
    process = up(tmp_path / "data", "--port", "0")
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline() or json.dumps({"failed": process.wait()}))
    assert "url" in ready, process.stderr and process.stderr.read()
    token = Path(ready["token_file"]).read_text()
    with Transport(ready["url"], token) as api:
        running = Up(process, ready, api)
        family = running.family()
        yield running
    process.kill()
    process.communicate()
    stage.eventually(
        lambda: not any(is_alive(pid) for pid in family), "nothing is left behind", 5.0
    )


@pytest.mark.slow
def test_ready_means_that_every_part_works_and_ctrl_c_stops_all_of_it(running: Up) -> None:
    assert set(running.ready) == {"url", "dashboard", "token_file", "data_dir", "device"}
    assert running.api.request("GET", "/v1/devices/local").json()["online"]
    assert Path(running.ready["token_file"]).stat().st_mode & 0o777 == 0o600
    family = running.family()
    assert {"serve", "agent", "trainer"} <= set(family.values())
    began = time.monotonic()
    running.process.send_signal(signal.SIGINT)
    _, said = running.process.communicate(timeout=STOP_SECONDS)
    assert running.process.returncode == 0, said
    assert "killed" not in said
    assert time.monotonic() - began < STOP_SECONDS
    assert not any(is_alive(pid) for pid in family)


@pytest.mark.slow
def test_a_second_one_on_the_same_data_or_port_is_refused(running: Up, tmp_path: Path) -> None:
    port = running.ready["url"].rsplit(":", 1)[1]
    second = up(Path(running.ready["data_dir"]), "--port", "0")
    _, said = second.communicate(timeout=20)
    assert second.returncode == 1
    error = json.loads(said)["error"]
    assert error["code"] == "already_running"
    assert str(running.process.pid) in error["message"]
    third = up(tmp_path / "other", "--port", port)
    _, said = third.communicate(timeout=20)
    assert third.returncode == 1
    assert json.loads(said)["error"]["code"] == "port_taken"


@pytest.mark.slow
def test_a_part_that_dies_is_started_again_at_the_same_address(running: Up, stage: Stage) -> None:
    before = running.family()
    victims = [pid for pid, part in before.items() if part in ("serve", "agent")]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    stage.eventually(lambda: not any(is_alive(pid) for pid in victims), "both are dead", 5.0)

    def is_back() -> bool:
        now = running.family()
        parts = {part for pid, part in now.items() if pid not in before}
        return {"serve", "agent"} <= parts and bool(
            running.api.request("GET", "/v1/devices/local").json()["online"]
        )

    stage.eventually(is_back, "service and agent are back", READY_SECONDS)


@pytest.mark.slow
def test_nothing_outlives_up_even_when_it_is_killed(running: Up, stage: Stage) -> None:
    family = running.family()
    assert len(family) >= 3
    running.process.kill()
    running.process.wait()
    stage.eventually(lambda: not any(is_alive(pid) for pid in family), "all parts are gone", 5.0)


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = up(tmp_path, "--port", str(port))
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken." in json.loads(said)["error"]["message"]
    assert not (tmp_path / "service.db").exists()
