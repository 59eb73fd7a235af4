"""The page about methods of one's own: its method is a method, and its table is the suite's."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from pruning_client.methods.plugins import GROUP
from pruning_client.testing import CHECKS, check_method

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "own-method.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
MAX_LINES = 30


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Names of a module for the page's code, which can be imported so that methods can be
    pickled.
    """
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    return module.__dict__


def test_the_method_is_short_and_passes_the_conformance_suite(names: dict[str, Any]) -> None:
    exec(compile(BLOCKS[0], "own-method.md", "exec"), names)
    assert len(BLOCKS[0].splitlines()) <= MAX_LINES
    check_method(names["GeometricMedian"]())


def test_the_test_of_the_page_runs_a_check(names: dict[str, Any]) -> None:
    names["GeometricMedian"] = lambda: None
    exec(compile(BLOCKS[2], "own-method.md", "exec"), names)
    with pytest.raises(AttributeError, match="NoneType"):
        names["test_my_method"]("name")


def test_every_check_is_explained() -> None:
    (table,) = re.findall(r"^\| check \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert {name for cell in cells for name in re.findall(r"`(.+?)`", cell)} == set(CHECKS)


def test_the_entry_point_is_in_the_group() -> None:
    assert f'[project.entry-points."{GROUP}"]' in PAGE
