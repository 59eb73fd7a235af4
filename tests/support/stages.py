"""Fixtures of whole services in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Stage


@pytest.fixture
def stage(tmp_path: Path, calibrations: Path) -> Iterator[Stage]:
    made = Stage(tmp_path, calibrations)
    yield made
    made.close()
