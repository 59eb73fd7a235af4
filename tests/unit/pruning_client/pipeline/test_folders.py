"""One job works in a folder at a time, in one that can be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pruning_client.errors import UsageError
from pruning_client.pipeline.folders import held

_HOLDER = """
import sys
from pathlib import Path
from pruning_client.pipeline.folders import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_folder_is_made_and_given_back(tmp_path: Path) -> None:
    out = tmp_path / "a folder" / "results"
    for _ in range(2):
        with held(out) as folder:
            assert folder == out
            assert out.is_dir()


def test_a_second_job_is_refused_until_the_first_is_gone_however_it_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="Another job works in") as caught, held(tmp_path):
            pass
        assert "out_dir" in caught.value.cure
        first.kill()
    with held(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match=r"cannot be written: (Not a directory|File exists)"),
        held(tmp_path / "file" / "results"),
    ):
        pass


def test_what_fails_within_keeps_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk is full"), held(tmp_path):
        raise OSError("disk is full")
