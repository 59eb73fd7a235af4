"""Calibrations of this machine, shared by the tests of a run: each takes ten seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latency_service.core.files import write_whole


@contextmanager
def known(state_dir: Path, calibrations: Path) -> Iterator[Path]:
    """A profiler's state folder that begins with `calibrations` and adds to them at the end."""
    give(calibrations, state_dir)
    yield state_dir
    keep(state_dir, calibrations)


def give(calibrations: Path, state_dir: Path) -> None:
    """Make a profiler's state folder that holds `calibrations`."""
    (state_dir / "calibration").mkdir(parents=True)
    _copy(calibrations, state_dir / "calibration")


def keep(state_dir: Path, calibrations: Path) -> None:
    """Add what a profiler has found to `calibrations`, which other processes may be reading."""
    _copy(state_dir / "calibration", calibrations)


def _copy(source: Path, target: Path) -> None:
    for file in source.glob("*.json"):
        write_whole(target / file.name, file.read_bytes())
