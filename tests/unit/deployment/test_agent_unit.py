"""The systemd unit of the agent: systemd takes it, it confines the agent, and it fits the agent."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from latency_service.agent.main import AUTHENTICATION
from latency_service.agent.measuring.pinning import NICENESS
from tests.support.commands import check_command

UNIT = Path(__file__).parents[3] / "deploy" / "latency-service-agent.service"
LINES = [line for line in UNIT.read_text().splitlines() if line and not line.startswith("#")]
SETTINGS = [line.partition("=")[::2] for line in LINES if "=" in line]
VALUES = dict(SETTINGS)
#: Of 10; systemd calls up to 2.0 "OK", and 9.6 is a unit without any confinement.
MOST_EXPOSED = 2.5

with_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed here"
)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a command that exists on this machine."""
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    (tmp_path / UNIT.name).write_text(text)
    return tmp_path / UNIT.name


def analyzed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@with_systemd
def test_systemd_takes_it(installed: Path) -> None:
    ended = analyzed("verify", "--man=no", installed)
    assert (ended.returncode, ended.stderr) == (0, "")


@with_systemd
def test_systemd_would_notice_a_wrong_line(installed: Path) -> None:
    installed.write_text(installed.read_text().replace("ProtectHome=yes", "ProtectHoem=yes"))
    assert "ProtectHoem" in analyzed("verify", "--man=no", installed).stderr


@with_systemd
def test_the_agent_is_confined(installed: Path) -> None:
    limit = round(10 * MOST_EXPOSED)
    ended = analyzed("security", "--offline=true", f"--threshold={limit}", installed)
    assert ended.returncode == 0, ended.stdout[-300:]
    installed.write_text(
        installed.read_text()
        .replace("ProtectSystem=strict\n", "")
        .replace("CapabilityBoundingSet=\n", "")
    )
    assert analyzed("security", "--offline=true", f"--threshold={limit}", installed).returncode != 0


def test_the_command_exists() -> None:
    words = VALUES["ExecStart"].split()
    assert Path(words[0]).name == "latency-service"
    check_command(words[1:])


def test_it_starts_again_but_not_with_a_token_that_is_refused() -> None:
    assert VALUES["Restart"] == "always"
    assert VALUES["RestartPreventExitStatus"] == str(AUTHENTICATION)
    assert VALUES["StartLimitIntervalSec"] == "0", "a network that comes late is no reason to stop"


def test_measuring_may_take_the_priority_that_it_asks_for_and_no_quota_halts_it() -> None:
    assert VALUES["LimitNICE"] == str(NICENESS)
    assert not {"CPUQuota", "AllowedCPUs", "CPUAffinity"} & VALUES.keys()
    assert VALUES["OOMPolicy"] == "continue", "a network that needs too much ends alone"


def test_state_lies_where_it_may_be_written_and_no_secret_in_the_unit() -> None:
    folder = VALUES["StateDirectory"]
    kept = [value for name, value in SETTINGS if name == "Environment"]
    assert kept == [
        f"LATENCY_SERVICE_STATE_DIR=%S/{folder}",
        f"LATENCY_SERVICE_DATA_DIR=%S/{folder}",
    ]
    assert "ENROLMENT=" not in "\n".join(LINES)
