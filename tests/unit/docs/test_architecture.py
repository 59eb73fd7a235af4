"""The page of the architecture: its floors are the contracts', what it names exists."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tools.floors import BEGIN, END, contracts, floors, page

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("latency_service", "pruning_client")
#: `folder/`, `folder/file.py` and `folder/file.py:name`
PLACES = sorted(set(re.findall(r"`([\w./-]+/[\w./-]*)(?::([\w.]+))?`", TEXT)))


def test_the_floors_are_those_of_the_contracts() -> None:
    assert page(TEXT, PYPROJECT) == TEXT, "write them again: python -m tools.floors"


def test_a_contract_is_split_into_floors_and_rooms() -> None:
    contract = {"layers": ["a.cli", "a.web | a.jobs", "(a.core)"]}
    assert floors(contract) == [["a.cli"], ["a.web", "a.jobs"], ["a.core"]]


def test_other_contracts_have_no_floors() -> None:
    found = {"contracts": [{"type": "forbidden"}, {"type": "layers", "name": "x"}]}
    assert contracts({"tool": {"importlinter": found}}) == [{"type": "layers", "name": "x"}]


def test_a_page_without_a_place_for_the_floors_is_refused() -> None:
    with pytest.raises(ValueError, match="around its floors"):
        page(f"{BEGIN} but no end", PYPROJECT)
    assert page(f"{BEGIN}{END}tail", PYPROJECT).endswith(f"{END}tail")


@pytest.mark.parametrize(("path", "name"), PLACES)
def test_every_place_exists(path: str, name: str) -> None:
    assert (ROOT / path).exists()
    if name:
        assert name in names_in(ROOT / path)


def names_in(path: Path) -> set[str]:
    """Functions, classes, methods (``Class.method``) and constants of a module."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            members = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AnnAssign)]
            found |= {f"{node.name}.{name}" for one in members for name in _names(one)}
        found |= set(_names(node))
    return found


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_room_is_on_the_map(package: str) -> None:
    rooms = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    on_the_map = set(re.findall(rf"^\| `{package}/(\w+)/`", TEXT, re.MULTILINE))
    assert on_the_map == rooms
