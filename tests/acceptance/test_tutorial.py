"""The tutorial as a reader follows it: its file, its commands, a real device."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.code_blocks import ROOT, blocks, commands
from tests.support.processes import clean_environment

PROGRAMS = {"latency-service": "latency_service", "pruning-client": "pruning_client"}
PAGE = [block for block in blocks() if block.page == "docs/tutorial.md"]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """`latency-service up` in a folder of its own, and what other terminals need to find it."""
    data = tmp_path / "service"
    words = ["up", "--data-dir", str(data), "--port", "0", "--until-input-ends", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "latency_service", *words],
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as up:
        assert up.stdout is not None
        url = json.loads(up.stdout.readline())["url"]
        yield clean_environment(
            PYTHONPATH=f"{ROOT}:{tmp_path}",
            LATENCY_SERVICE_URL=url,
            LATENCY_SERVICE_DATA_DIR=str(data),
            LATENCY_SERVICE_TOKEN=(data / "token").read_text().strip(),
        )
        up.communicate()


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_tutorial_ends_with_a_network_within_its_budget(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (program,) = (block.text for block in PAGE if block.language == "python")
    (tmp_path / "digits.py").write_text(program)
    shown = [words for block in PAGE if block.language == "bash" for words in commands(block.text)]
    started = [words for words in shown if words[0] != "pip" and words[1] != "up"]
    assert [words[1] for words in started] == [
        "digits.py",
        "space",
        "campaigns",
        "predictors",
        "prune",
    ]
    for program, *words in started:
        command = ["-m", PROGRAMS[program], *words] if program in PROGRAMS else words
        ended = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads((tmp_path / "runs/digits/report.json").read_text())["met"]
