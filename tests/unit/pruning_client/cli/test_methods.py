"""``pruning-client methods``, and methods of other packages on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pruning_client.cli.settings import method_from
from pruning_client.errors import UsageError
from tests.support import plugins
from tests.support.outcomes import Run


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Module of an installed package with the method "own"."""
    monkeypatch.syspath_prepend(tmp_path)
    return plugins.install(tmp_path)


def test_the_command_lists_methods_with_package_and_options(module: str, run: Run) -> None:
    outcome = run("methods", "--json")
    assert outcome.code == 0, outcome.err
    rows = {row["name"]: row for row in outcome.json}
    assert rows["own"]["package"] == "plugin 1.5"
    assert rows["own"]["options"] == {"rounds": 3, "share": None, "kernel": [1, 1]}
    options = {"criterion": "l1", "allocator": "threshold"}
    assert rows["l1"] == {"name": "l1", "package": None, "options": options}
    table = run("methods").out
    assert "plugin 1.5" in table
    assert "rounds=3" in table


def test_help_imports_no_package(module: str, run: Run) -> None:
    outcome = run("prune", "--help")
    assert outcome.code == 0
    assert "w-gates, free-gates, gdp" in outcome.out
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ([], {}),
        (["rounds=5"], {"rounds": 5}),
        (["share=0.25", "rounds=7"], {"share": 0.25, "rounds": 7}),
        (["kernel=[3, 5]"], {"kernel": (3, 5)}),
        (["share=null"], {"share": None}),
    ],
)
def test_options_are_read_in_the_types_of_the_method(
    given: list[str], options: dict[str, Any], module: str
) -> None:
    method = method_from("own", given, epochs=None)
    assert method == type(method)(**options)


@pytest.mark.parametrize(
    ("given", "cause", "cure"),
    [
        ("rounds", "'rounds' does not set an option", "NAME=VALUE"),
        ("rounds=many", "'many' is not a value of the method's option 'rounds'", "Give int"),
        ("kernel=3", "'3' is not a value of the method's option 'kernel'", "JSON"),
        ("speed=3", "'own' has no option 'speed'", "rounds, share, kernel"),
    ],
)
def test_options_that_cannot_be_read(given: str, cause: str, cure: str, module: str) -> None:
    with pytest.raises(UsageError) as caught:
        method_from("own", [given])
    assert cause in caught.value.message
    assert cure in caught.value.cure


def test_a_built_in_method_takes_any_of_its_options() -> None:
    method: Any = method_from("w-gates", ["frozen_share=0.3", "gate_lr=null"], epochs=3)
    assert (method.frozen_share, method.gate_lr, method.epochs) == (0.3, None, 3)
