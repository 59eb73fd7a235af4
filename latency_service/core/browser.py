"""Pictures and PDF of a page that is one file, by a browser of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from latency_service.core.files import write_whole

#: Names of programs, all of them Chromium at heart.
PROGRAMS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
)
#: Size of a picture, pixels.
SIZE = (1200, 1750)
TIMEOUT_SECONDS = 60.0
#: Time of the page's own clock until it has drawn its figures, ms.
_DRAWN_MS = 10_000


class NoBrowser(Exception):
    """This machine has no browser that could take the picture, or it did not take one."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(f"{message} {cure}")
        self.message = message
        self.cure = cure


def write(page: str, out: Path | None, *, png: Path | None, pdf: Path | None) -> list[Path]:
    """Write a page in the forms that are asked for, as report.html if none is; returns the files.

    Raises:
        NoBrowser: a picture or PDF is asked for, and there is no browser or it failed.
        OSError: a file cannot be written.
    """
    if out is None and png is None and pdf is None:
        out = Path("report.html")
    forms: list[tuple[Path | None, Callable[[str], bytes]]] = [
        (out, str.encode),
        (png, picture),
        (pdf, print_pdf),
    ]
    files = [(path, make(page)) for path, make in forms if path is not None]
    for path, content in files:
        write_whole(path, content, mode=0o644)
    return [path for path, _ in files]


def picture(page: str) -> bytes:
    """The first screen of a page as PNG.

    Raises:
        NoBrowser: there is no browser, or it failed.
    """
    width, height = SIZE
    return _taken(
        page, "screenshot", ".png", [f"--window-size={width},{height}", "--hide-scrollbars"]
    )


def print_pdf(page: str) -> bytes:
    """A page as it is printed.

    Raises:
        NoBrowser: there is no browser, or it failed.
    """
    return _taken(
        page, "print-to-pdf", ".pdf", ["--window-size=1040,1400", "--no-pdf-header-footer"]
    )


def _taken(page: str, what: str, suffix: str, options: Sequence[str]) -> bytes:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise NoBrowser(
            "This needs Chromium, Chrome or Edge, and none of them is on the PATH.",
            "Install one, or open the HTML file in any browser and print it there.",
        )
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "page.html", Path(folder) / f"result{suffix}"
        source.write_text(page, encoding="utf-8")
        # as root a browser refuses to run in its sandbox; the page is our own and asks nobody
        is_root = getattr(os, "geteuid", lambda: 1)() == 0
        command = [
            program,
            "--headless",
            "--disable-gpu",
            f"--user-data-dir={Path(folder) / 'profile'}",
            f"--virtual-time-budget={_DRAWN_MS}",
            *(["--no-sandbox"] if is_root else []),
            *options,
            f"--{what}={result}",
            source.as_uri(),
        ]
        try:
            ended = subprocess.run(
                command, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise NoBrowser(
                f"{program} did not end within {TIMEOUT_SECONDS:.0f} s.", "Try again."
            ) from error
        if not result.exists():
            said = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise NoBrowser(
                f"{program} made no file: {''.join(said) or f'exit code {ended.returncode}'}.",
                "Open the HTML file in any browser and print it there.",
            )
        return result.read_bytes()
