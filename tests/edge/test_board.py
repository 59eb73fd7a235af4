"""The base wheel on an emulated arm64 board without /sys, hundreds of times slower than a server.

`make test-edge` builds the board and runs this.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from latency_service.agent.measuring.canaries import CANARIES, build
from tests.support.processes import Stage, clean_environment, migrate, serve
from tests.support.tiny import campaign_of, tiny_space

BOARD = Path(__file__).parents[2] / ".edge"
COMMAND = BOARD / "latency-service"
#: Leases as in use: emulated imports alone take longer than those of other tests.
PATIENT = {
    "LATENCY_SERVICE_LEASE_SECONDS": "60",
    "LATENCY_SERVICE_RENEW_SECONDS": "20",
    "LATENCY_SERVICE_HEARTBEAT_SECONDS": "15",
}

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not COMMAND.exists(), reason="`make test-edge` builds the emulated board"),
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("edge")
    (folder / "calibrations").mkdir()
    opened = Stage(folder, folder / "calibrations")
    yield opened
    opened.close()


def on_the_board(*words: str, data_dir: Path) -> Any:
    """What a command prints as JSON on the board."""
    ended = subprocess.run(
        [str(COMMAND), *words, "--json"],
        env=clean_environment(LATENCY_SERVICE_DATA_DIR=str(data_dir)),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout)


def test_doctor_looks_at_the_board(tmp_path: Path) -> None:
    found = {each["check"]: each for each in on_the_board("doctor", data_dir=tmp_path)}
    assert found["runtime"]["level"] == "ok"
    assert not [each for each in found.values() if each["level"] == "error"]


def test_a_file_is_calibrated_and_measured(tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    onnx.save_model(build(CANARIES[1]), path)
    found = on_the_board("measure", str(path), data_dir=tmp_path)
    assert found["fingerprint"]["facts"]["machine"] == "aarch64"
    calibration = found["calibration"]
    assert 1 <= len(calibration["canaries"]) == len(calibration["floor_ms"]) < len(CANARIES)
    assert calibration["floor_ms"][0] > 1.0
    summary = found["summary"]
    assert 0 < summary["lower_ms"] < summary["latency_ms"] < summary["upper_ms"]
    assert summary["upper_ms"] < 1.3 * summary["lower_ms"]
    assert len(found["rounds"]) >= 60


def test_it_enrols_and_measures_for_a_service(stage: Stage) -> None:
    migrate(stage.folder, "")
    service = serve(stage, "", **PATIENT)
    token = service.post("/v1/enrolments")["token"]
    state = str(stage.folder / "agent")
    options = ("--server", service.url, "--name", "board", "--state-dir", state)
    stage.start("agent", "agent", *options, command=[str(COMMAND)], LATENCY_SERVICE_ENROLMENT=token)
    space = tiny_space()
    stage.eventually(
        lambda: service.get("/v1/devices/board")["online"], "the board is online", 120.0
    )
    service.api.request("POST", "/v1/spaces", content=space.data)
    campaign = service.post("/v1/campaigns", campaign_of(space, 4))["id"]
    stage.eventually(
        lambda: service.get(f"/v1/campaigns/{campaign}")["state"] == "done", "it is measured", 600.0
    )
    rows = service.get("/v1/measurements", device="board")
    assert len(rows) == 4
    (target,) = service.get("/v1/devices/board")["targets"]
    assert target["facts"]["machine"] == "aarch64"
