"""``pruning-client report``: the page of a finished job, sweep or comparison, made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from latency_service.core import browser
from pruning_client.cli.main import app
from pruning_client.errors import InvalidInput, Missing
from tests.support.contests import contest, entry, result
from tests.support.reports import pruning_report


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "report.json").write_text(pruning_report().model_dump_json())
    return tmp_path


def run(*words: object) -> str:
    return CliRunner().invoke(app, ["report", *map(str, words)], catch_exceptions=False).output


def test_a_folder_becomes_a_page(job: Path) -> None:
    page = job / "again.html"
    assert run(job, "--out", page).split() == ["file", str(page)]
    assert "pruned for board" in page.read_text()


def test_a_comparison_of_methods_has_its_own_page(tmp_path: Path) -> None:
    made = contest([entry("uniform", result(90.0))])
    (tmp_path / "contest.json").write_text(made.model_dump_json())
    (tmp_path / "front.json").write_text(made.front.model_dump_json())
    run(tmp_path, "--out", tmp_path / "contest.html")
    assert "equal measured latency" in (tmp_path / "contest.html").read_text()
    (tmp_path / "contest.json").unlink()
    run(tmp_path, "--out", tmp_path / "front.html")
    assert "1 pruning runs" in (tmp_path / "front.html").read_text()


def test_a_folder_without_a_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no report"):
        run(tmp_path)
    (tmp_path / "contest.json").write_text("{}")
    with pytest.raises(InvalidInput, match="cannot be read"):
        run(tmp_path)


def test_a_picture_needs_a_browser(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "PROGRAMS", ())
    with pytest.raises(Missing, match="Chromium, Chrome or Edge"):
        run(job, "--png", job / "picture.png")
    assert [path.name for path in job.iterdir()] == ["report.json"]
