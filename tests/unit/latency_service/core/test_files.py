from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
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


@pytest.fixture(params=[errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def no_hard_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_paths: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(os, "link", refused)


@pytest.mark.usefixtures("no_hard_links")
def test_without_hard_links_the_first_of_many_writers_wins(tmp_path: Path) -> None:
    path = tmp_path / "token"
    contents = [bytes([65 + number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        is_first = list(pool.map(lambda content: create_whole(path, content), contents))
    assert is_first.count(True) == 1
    assert path.read_bytes() == contents[is_first.index(True)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.glob("*.draft")) == []


@pytest.mark.usefixtures("no_hard_links")
def test_without_hard_links_a_writer_that_fails_leaves_the_name_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token"

    def full(*_paths: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            create_whole(path, b"first")
    assert not path.exists()
    assert create_whole(path, b"second")
    assert path.read_bytes() == b"second"


def test_other_errors_of_a_link_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_paths: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", broken)
    with pytest.raises(OSError, match="Input/output"):
        create_whole(tmp_path / "token", b"first")
    assert list(tmp_path.iterdir()) == []
