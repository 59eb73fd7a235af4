"""What the documents say exists: commands and their options, paths of the API, files, benchmarks,
names in Python.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import pruning_client
from benchmarks.__main__ import names
from latency_service.app import create_app
from latency_service.settings import Settings
from pruning_client.cli.main import app as pruning_app
from tests.support.commands import check_command

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = {str(path.relative_to(ROOT)): path.read_text() for path in DOCUMENTS}
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def lines() -> list[str]:
    """Command lines in the documents' blocks, continued lines joined, comments cut."""
    blocks = "\n".join(block for text in TEXT.values() for block in _BLOCK.findall(text))
    joined = blocks.replace("\\\n", " ")
    return sorted({line.split("  #")[0].strip() for line in joined.splitlines() if line.strip()})


COMMANDS = [
    line
    for line in lines()
    if line.startswith(("latency-service ", "pruning-client ", "python -m benchmarks"))
]


def test_the_documents_show_the_commands_of_all_three_ways_of_use() -> None:
    assert {"latency-service up"} <= set(COMMANDS)
    assert any(line.startswith("latency-service agent") for line in COMMANDS)
    assert any(line.startswith("pruning-client prune") for line in COMMANDS)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist_with_their_options(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "latency-service":
        check_command(words)
    elif program == "pruning-client":
        check_command(words, pruning_app)
    else:
        assert words[2] in {"NAME", *names()}


def test_paths_of_the_api_exist(tmp_path: Path) -> None:
    served = create_app(Settings(data_dir=tmp_path)).openapi()["paths"]
    patterns = [re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)) + "$") for path in served]
    said = {match for text in TEXT.values() for match in re.findall(r"(/v1/[\w/{}.-]*\w}?)", text)}
    assert "/v1/predictors/PREDICTOR/predict" in said
    unknown = {path for path in said if not any(pattern.match(path) for pattern in patterns)}
    assert unknown == set()


def test_files_that_the_documents_link_to_exist() -> None:
    missing = [
        (name, link)
        for name, text in TEXT.items()
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", text)
        if not ((ROOT / name).parent / link).exists()
    ]
    assert missing == []


def test_every_benchmark_is_listed_with_what_it_does() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in answer.stdout.splitlines()}
    assert {"materialise", "serving", "demo"} <= set(listed)
    assert all(len(words) > 20 for words in listed.values())


def test_python_in_the_readme_uses_names_that_are_public() -> None:
    imported = re.findall(r"from pruning_client import ([\w, ]+)", TEXT["README.md"])
    assert imported
    assert {name.strip() for names_ in imported for name in names_.split(",")} <= set(
        pruning_client.__all__
    )
