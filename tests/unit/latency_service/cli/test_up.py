"""``latency-service up --demo`` where it must not start."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from latency_service.cli import up
from latency_service.db.engine import Database
from latency_service.db.migrate import upgrade
from latency_service.embedded import demo
from latency_service.settings import Settings
from latency_service.spaces import service as spaces_service
from tests.support.outcomes import Run
from tests.support.tiny import tiny_space


@pytest.fixture(autouse=True)
def no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals of the test process stay as they are."""
    monkeypatch.setattr(up, "stop_on_signals", threading.Event)


def test_the_demo_refuses_a_database_with_other_data(run: Run, data_dir: Path) -> None:
    settings = Settings(data_dir=data_dir)
    upgrade(settings)
    database = Database(settings.url)
    with database.write() as session:
        spaces_service.store(session, spaces_service.describe(tiny_space()))
    database.dispose()
    outcome = run("up", "--demo", "--port", "0", "--json")
    assert (outcome.code, outcome.out) == (1, "")
    error = json.loads(outcome.err)["error"]
    assert error["code"] == "not_empty"
    assert "it holds the search space 'tiny'. Nothing was changed." in error["message"]
    assert "--data-dir" in error["cure"]
    assert not (data_dir / "logs").exists(), "no part was started"


def test_the_demo_needs_the_whole_installation(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_NEEDED", ("no_such_package",))
    outcome = run("up", "--demo", "--port", "0")
    assert outcome.code == 1
    assert "'no_such_package'" in outcome.err
    assert "latency-service[all]" in outcome.err
    assert not data_dir.exists()
