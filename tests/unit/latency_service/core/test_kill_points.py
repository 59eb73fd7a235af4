from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from latency_service.core.kill_points import VARIABLE
from tests.support.processes import clean_environment

PROGRAM = """
from latency_service.core.kill_points import pass_kill_point
for turn in range(3):
    print("claimed", turn, flush=True)
    pass_kill_point("claimed-after-commit")
    pass_kill_point("claimed-before-commit")
"""


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_choice_nothing_happens() -> None:
    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("claimed") == 3


def test_the_chosen_pass_of_the_chosen_point_kills() -> None:
    ended = run(**{VARIABLE: "claimed-before-commit:2"})
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout.count("claimed") == 2


def test_a_point_that_is_not_passed_kills_nobody() -> None:
    assert run(**{VARIABLE: "spooled-before-send:1"}).returncode == 0


@pytest.mark.parametrize("chosen", ["claimed:1", "claimed-before-commit", "spooled-before-send:0"])
def test_a_choice_that_means_nothing_is_refused_at_the_start(chosen: str) -> None:
    ended = run(**{VARIABLE: chosen})
    assert ended.returncode == 1
    assert f"{VARIABLE} is NAME:N" in ended.stderr
