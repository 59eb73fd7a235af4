"""What a database may hold when demo data are put into it, and the program that measures them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from latency_service.core.demo import SPACE_NAME
from latency_service.db.engine import Database
from latency_service.embedded import demo
from latency_service.spaces.models import Space
from tests.support.databases import Clone


@pytest.fixture
def database(clone_sqlite: Clone) -> Iterator[Database]:
    found = Database(clone_sqlite(True))
    yield found
    found.dispose()


def add_space(database: Database, name: str, *, is_probe: bool = False) -> None:
    with database.write() as session:
        row = Space(
            id=name.ljust(64, "0"),
            name=name,
            groups=[],
            opset=17,
            inputs={},
            size_bytes=1,
            parameters=1,
            macs=1,
            is_probe=is_probe,
            blob=b"x",
        )
        session.add(row)


def found(database: Database) -> str | None:
    with database.read() as session:
        return demo.what_is_there(session)


def test_an_empty_database_and_one_with_demo_data_have_room(database: Database) -> None:
    assert found(database) is None
    add_space(database, "probe", is_probe=True)
    add_space(database, SPACE_NAME)
    assert found(database) is None


def test_a_database_with_somebodys_network_has_none(database: Database) -> None:
    add_space(database, SPACE_NAME)
    add_space(database, "ResNet")
    assert found(database) == "the search space 'ResNet'"


def test_the_program_gets_its_token_by_the_environment_alone() -> None:
    made = demo.program("http://127.0.0.1:1", "local", "secret", {"PATH": "/bin"})
    assert made.environment == {"PATH": "/bin", "LATENCY_SERVICE_TOKEN": "secret"}
    assert "secret" not in " ".join(made.command)
    assert made.log is None


def test_a_package_that_the_demo_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert demo.missing_package() is None
    monkeypatch.setattr(demo, "_NEEDED", ("json", "no_such_package"))
    assert demo.missing_package() == "no_such_package"
