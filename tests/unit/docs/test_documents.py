"""What the documents name exists: API paths, files, headings, benchmarks. Their blocks of code are
checked in test_code_blocks.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from latency_service.app import create_app
from latency_service.core.exit_codes import MEANINGS
from latency_service.settings import Settings
from tests.support.code_blocks import ROOT, blocks, commands, documents

MAX_README_LINES = 120
MAX_CELL_CHARACTERS = 100
TEXT = {str(path.relative_to(ROOT)): path.read_text() for path in documents()}


def test_the_documents_show_the_commands_of_all_three_ways_of_use() -> None:
    shown = [
        words for block in blocks() if block.language == "bash" for words in commands(block.text)
    ]
    assert ["latency-service", "up"] in shown
    assert any(words[:2] == ["latency-service", "agent"] for words in shown)
    assert any(words[:2] == ["pruning-client", "prune"] for words in shown)


def test_paths_of_the_api_exist(tmp_path: Path) -> None:
    served = create_app(Settings(data_dir=tmp_path)).openapi()["paths"]
    patterns = [re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)) + "$") for path in served]
    said = {match for text in TEXT.values() for match in re.findall(r"(/v1/[\w/{}.-]*\w}?)", text)}
    assert "/v1/predictors/PREDICTOR/predict" in said
    unknown = {path for path in said if not any(pattern.match(path) for pattern in patterns)}
    assert unknown == set()


def test_files_and_headings_that_the_documents_link_to_exist() -> None:
    links = [
        (name, target, anchor)
        for name, text in TEXT.items()
        for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text)
    ]
    missing = [link for link in links if not exists(*link)]
    assert missing == []


def exists(name: str, target: str, anchor: str) -> bool:
    path = (ROOT / name).parent / target if target else ROOT / name
    return path.exists() and (not anchor or anchor in anchors(path.read_text()))


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", one).strip().lower().replace(" ", "-") for one in headings}


def test_the_readme_is_short_and_its_tables_are_narrow() -> None:
    lines_ = TEXT["README.md"].splitlines()
    cells = [cell.strip() for line in lines_ if line.startswith("|") for cell in line.split("|")]
    assert len(lines_) <= MAX_README_LINES
    assert [cell for cell in cells if len(cell) > MAX_CELL_CHARACTERS] == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[str] = set()
    waiting = ["README.md"]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        for target in re.findall(r"\]\((?!http)([^)#]+)", TEXT[name]):
            path = ((ROOT / name).parent / target).resolve()
            found = path.glob("*.md") if path.is_dir() else [path]
            linked = {str(one.relative_to(ROOT)) for one in found} & TEXT.keys()
            waiting += sorted(linked - seen)
    assert seen == TEXT.keys()


def test_every_exit_code_is_explained() -> None:
    rows = re.findall(r"^\| (\d+) \| .+ \|$", TEXT["docs/reference/exit-codes.md"], re.MULTILINE)
    assert [int(code) for code in rows] == sorted(MEANINGS)


def test_every_benchmark_is_listed_with_what_it_does() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in answer.stdout.splitlines()}
    assert {"materialise", "serving", "demo"} <= set(listed)
    assert all(len(words) > 20 for words in listed.values())


def test_pages_that_the_code_names_exist() -> None:
    folders = ("latency_service", "pruning_client", "benchmarks", "tools", "tests", "examples")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r"docs/[\w/-]+\.md", path.read_text())}
    assert {name for name in named if not (ROOT / name).exists()} <= {"docs/nowhere.md"}
