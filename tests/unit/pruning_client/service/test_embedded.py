from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pruning_client.errors import Missing
from pruning_client.service.embedded import embedded_service


def test_a_service_that_cannot_start_says_where_the_reason_is(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("no folder")
    with pytest.raises(Missing, match=r"taken\.log"), embedded_service(tmp_path / "taken"):
        pass
    assert (tmp_path / "taken.log").read_text()


@pytest.mark.slow
def test_the_same_folder_opens_the_same_service_again_and_nothing_is_left(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with embedded_service(tmp_path / "service") as service:
        (device,) = service.client.devices()
        assert device.name == service.device
    with embedded_service(tmp_path / "service") as again:
        assert [found.id for found in again.client.devices()] == [device.id]
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    assert "Fatal" not in (tmp_path / "service.log").read_text()


OWNER = """
import sys, time
from pruning_client.service.embedded import embedded_service
with embedded_service(sys.argv[1]):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_program_takes_its_service_along(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path / "service")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        started = psutil.Process(owner.pid).children(recursive=True)
        owner.kill()
    assert len(started) >= 4
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive
