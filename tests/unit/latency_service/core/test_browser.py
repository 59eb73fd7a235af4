"""Pictures and PDF by a browser of this machine, and what is said without one."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from latency_service.core import browser
from latency_service.core.browser import NoBrowser

PAGE = "<!doctype html><title>a page</title><h1>A page</h1>"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in place of the browser."""
    made = tmp_path / "bin" / "pretender"
    made.parent.mkdir()
    monkeypatch.setenv("PATH", f"{made.parent}:/usr/bin:/bin")
    monkeypatch.setattr(browser, "PROGRAMS", ("pretender",))
    return made


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.skipif(
    not any(map(shutil.which, browser.PROGRAMS)), reason="there is no browser on this machine"
)
def test_a_page_as_a_picture_and_as_a_pdf(tmp_path: Path) -> None:
    png, pdf = tmp_path / "page.png", tmp_path / "page.pdf"
    assert browser.write(PAGE, None, png=png, pdf=pdf) == [png, pdf]
    content = png.read_bytes()
    assert struct.unpack(">II", content[16:24]) == browser.SIZE
    assert pdf.read_bytes().startswith(b"%PDF")


def test_without_a_browser_nothing_is_written(tmp_path: Path, program: Path) -> None:
    with pytest.raises(NoBrowser, match="none of them is on the PATH"):
        browser.write(PAGE, tmp_path / "page.html", png=tmp_path / "page.png", pdf=None)
    assert not list(tmp_path.glob("page.*"))


def test_a_browser_that_fails_is_quoted(program: Path) -> None:
    script(program, "echo 'no display' >&2; exit 3")
    with pytest.raises(NoBrowser, match="made no file: no display"):
        browser.picture(PAGE)


def test_a_browser_that_hangs_is_given_up(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "TIMEOUT_SECONDS", 0.1)
    script(program, "exec sleep 60")
    with pytest.raises(NoBrowser, match="did not end within"):
        browser.picture(PAGE)
