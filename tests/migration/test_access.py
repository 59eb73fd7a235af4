"""A database with devices, agents and tokens of the first schema becomes one of the present."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from latency_service.db.engine import make_engine
from latency_service.db.migrate import downgrade, upgrade
from latency_service.settings import Settings

FIRST = "20250601_first"
NOW = "2025-06-01 00:00:00.000000"
DEVICE = "INSERT INTO devices (id, name, created_at) VALUES ('d1', 'board', :now)"
AGENT = (
    "INSERT INTO agents (id, kind, device_id, agent_version, runtime_version, max_opset, "
    "providers, facts, state, created_at, last_seen_at) VALUES "
    "('a1', 'device', 'd1', '0', '1.20.0', 20, '[]', '{}', 'idle', :now, :now)"
)
OLD_TOKEN = (
    "INSERT INTO tokens (sha256, role, agent_id, created_at) VALUES ('f', 'agent', 'a1', :now)"
)
TOKEN = (
    "INSERT INTO tokens (id, kind, name, scopes, agent_id, created_at) VALUES "
    "('t1', 'agent', 'board', '[\"agent\"]', 'a1', :now)"
)
SECRET = "INSERT INTO token_secrets (digest, token_id, created_at) VALUES ('f', 't1', :now)"
ENTRY = (
    "INSERT INTO audit (id, at, token_id, token_name, action) VALUES "
    "('e1', :now, 't1', 'board', 'agent.register')"
)


@pytest.fixture
def settings(empty_database_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=empty_database_url, data_dir=tmp_path)


def insert(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(text(statement), {"now": NOW})


def count(connection: Connection, table: str) -> int:
    return len(connection.exec_driver_sql(f"SELECT * FROM {table}").all())  # noqa: S608


def test_up_down_and_up_again_with_data(settings: Settings) -> None:
    engine = make_engine(settings.url)
    upgrade(settings, FIRST)
    with engine.begin() as connection:
        insert(connection, DEVICE, AGENT, OLD_TOKEN)
    upgrade(settings, "20261129_access")
    with engine.begin() as connection:
        assert [count(connection, table) for table in ("agents", "tokens")] == [1, 0]
        insert(connection, TOKEN, SECRET, ENTRY)
    downgrade(settings, FIRST)
    with engine.begin() as connection:
        assert [count(connection, table) for table in ("agents", "tokens")] == [1, 0]
        insert(connection, OLD_TOKEN)
    upgrade(settings)
    with engine.begin() as connection:
        assert count(connection, "devices") == 1
        for table in ("tokens", "token_secrets", "audit"):
            assert count(connection, table) == 0
    engine.dispose()
