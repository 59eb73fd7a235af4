"""What tests share is in tests/support: no test imports another test or a conftest."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]


def foreign_imports(source: str) -> Iterator[str]:
    """Modules of tests, outside tests.support, that a file imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if _is_foreign(name))


def _is_foreign(name: str) -> bool:
    parts = name.split(".")
    return parts[0] in ("", "tests", "conftest") and parts[:2] != ["tests", "support"]


def test_no_test_imports_a_test_or_a_conftest() -> None:
    found = {
        str(file.relative_to(TESTS)): foreign
        for file in TESTS.rglob("*.py")
        if (foreign := list(foreign_imports(file.read_text())))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "from tests.unit.test_x import helper",
        "from tests import conftest",
        "import tests.integration.conftest",
        "from .test_x import helper",
        "from conftest import helper",
    ],
)
def test_such_imports_are_seen(line: str) -> None:
    assert list(foreign_imports(line))
    assert not list(foreign_imports("from tests.support import tiny\nimport numpy"))
