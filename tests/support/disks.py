"""Disks that run out of room, and get it back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, kw_only=True)
class Disk:
    """The disk of a service's database, called with the id of the service's process."""

    database_url: str
    fill: Callable[[int], None]
    free: Callable[[int], None]


class Ballast:
    """A file that takes all the room that a file system has left."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ballast"

    def fill(self, _pid: int = 0) -> None:
        with self._file.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 12)):
                pass

    def free(self, _pid: int = 0) -> None:
        self._file.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, *, megabytes: int) -> Iterator[Ballast]:
    """A file system of its own at a folder. Skips the test where this process must not mount."""
    options = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(options, capture_output=True).returncode != 0:
        pytest.skip("mounting needs more rights than this process has")
    ballast = Ballast(folder)
    try:
        yield ballast
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
