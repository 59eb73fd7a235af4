"""The Makefile and the pre-commit hooks: what they say exists, and they agree."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
MAKEFILE = (ROOT / "Makefile").read_text()
HOOKS: list[dict[str, Any]] = [
    hook
    for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repository["hooks"]
]


def run_make(*arguments: str) -> str:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_make_alone_lists_every_target_with_what_it_does() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    listed = {line.split()[1]: line.split(maxsplit=2)[2] for line in run_make().splitlines()}
    assert listed.keys() == set(phony.split())
    assert run_make("help") == run_make()


def test_lint_checks_format_spelling_types_contracts_and_lengths() -> None:
    commands = run_make("--dry-run", "--assume-old", ".venv/.installed", "lint")
    for tool in ("ruff format", "ruff check", "codespell", "mypy", "lint-imports", "measure_code"):
        assert tool in commands


@pytest.mark.parametrize("target", ["test", "coverage"])
def test_every_test_runs_in_parallel_or_alone(target: str) -> None:
    commands = run_make("--dry-run", "--assume-old", ".venv/.installed", target).splitlines()
    parallel, alone = (line.split() for line in commands if "-m pytest" in line)
    assert "tests" in parallel
    ignored = [word.removeprefix("--ignore=") for word in parallel if "--ignore=" in word]
    assert ignored == [word for word in alone if word.startswith("tests/")]
    assert all((ROOT / path).is_file() for path in ignored)


def test_the_first_picture_of_the_readme_is_made_by_one_command() -> None:
    first = re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / "README.md").read_text())[0]
    commands = run_make("--dry-run", "--assume-old", ".venv/.installed", "picture")
    assert f"pruning-client report runs/demo --png {first}" in commands


def test_hooks_need_no_network_and_run_what_lint_runs() -> None:
    assert {hook["id"] for hook in HOOKS} == {"ruff", "ruff-format", "codespell"}
    lint = MAKEFILE.replace("$(BIN)", ".venv/bin")
    for hook in HOOKS:
        assert hook["language"] == "system"
        assert hook["entry"].split(" --")[0] in lint


def test_a_driver_that_loses_notifications_is_not_installed() -> None:
    """Up to psycopg 3.2.3 what came between two calls of `notifies` was lost (its issue 962)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = map(Requirement, project["optional-dependencies"]["service"])
    [driver] = [entry for entry in named if entry.name == "psycopg"]
    assert not driver.specifier.contains("3.2.3")
    assert driver.specifier.contains("3.2.4")


def test_the_licence_is_complete() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert all(f"\n   {number}. " in text for number in range(1, 10))
