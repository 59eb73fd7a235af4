from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from latency_service.core.files import create_whole, write_whole


def test_a_file_is_replaced_whole_with_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("before")
    write_whole(path, b"after", mode=0o640)
    assert path.read_text() == "after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_whole, create_whole])
def test_a_full_disk_leaves_what_was_there_and_no_draft(
    write: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "token"
    if write is write_whole:
        path.write_text("before")
    with pytest.raises(OSError, match="No space"):
        write(path, b"after")  # type: ignore[operator]
    assert [entry.read_text() for entry in tmp_path.iterdir()] == (
        ["before"] if write is write_whole else []
    )


def test_of_two_first_writers_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert create_whole(path, b"first")
    assert not create_whole(path, b"second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
