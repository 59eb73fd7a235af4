"""``latency-service report`` against a fake service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latency_service.core import browser
from tests.support.outcomes import Run
from tests.support.scripted_service import ScriptedService

PAGE = "<!doctype html><title>a report</title>"


@pytest.fixture(autouse=True)
def scripted(service: ScriptedService) -> None:
    service.on("GET /reports/p1", PAGE)


def test_the_page_is_written_where_it_is_asked_for(call: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    outcome = call("report", "p1", "--out", str(page), "--json")
    assert json.loads(outcome.out) == [str(page)]
    assert "a report" in page.read_text()


def test_without_a_name_it_is_in_the_working_folder(
    call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("report", "p1").out == "file\nreport.html\n"
    assert (tmp_path / "report.html").exists()


def test_a_picture_without_a_browser_and_a_folder_that_is_not_there(
    call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "PROGRAMS", ())
    outcome = call("report", "p1", "--png", str(tmp_path / "picture.png"))
    assert outcome.code == 3
    assert "Chromium, Chrome or Edge" in outcome.err
    outcome = call("report", "p1", "--out", str(tmp_path / "no" / "page.html"))
    assert outcome.code == 1
    assert "cannot be written" in outcome.err
