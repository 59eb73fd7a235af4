"""The pages of the site, gathered in one folder.

Pages are written for a reader of the repository: their links name files of it. Here those links are
turned to pages of the site. A linked file that is no page becomes one that shows its text, so that
no link leaves the site for a place that it cannot know.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from latency_service.cli.main import app as latency_service
from pruning_client.cli.main import app as pruning_client
from tools.documentation import api, commands, errors, settings

ROOT = Path(__file__).parents[2]
#: Pages that lie outside docs/, and where the site has them.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
}
#: Titles of the pages that list a folder; others have its name.
TITLES = {"docs/adr": "Decisions"}
#: Folder of the site for files of the repository that are no pages.
FILES = "files"
#: What takes the place of a line such as ``<!-- made by the build: settings -->``.
MADE: Mapping[str, Callable[[], str]] = {
    "api": api.page,
    "errors": errors.page,
    "settings": settings.page,
    "latency-service": partial(commands.page, latency_service, "latency-service"),
    "pruning-client": partial(commands.page, pruning_client, "pruning-client"),
}
_MARK = re.compile(r"^<!-- made by the build: ([\w-]+) -->$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")
_LANGUAGES = {"Dockerfile": "docker", ".py": "python", ".yml": "yaml", ".yaml": "yaml"}


class Staging:
    """Writes all pages to a folder.

    Args:
        root: the repository.
        folder: where the pages are written; what is there is deleted.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        docs = (path for path in sorted((root / "docs").rglob("*")) if path.is_file())
        #: Files of the repository, and their place in the site.
        self._places = {path.relative_to(root).as_posix(): "" for path in docs}
        self._places = {name: name.removeprefix("docs/") for name in self._places} | ELSEWHERE

    def write(self) -> list[str]:
        """Write everything.

        Returns:
            The pages, as paths within the folder.

        Raises:
            FileNotFoundError: a page links to a file that does not exist.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
        written: dict[str, str] = {}
        while waiting := self._places.items() - written.items():
            for name, place in sorted(waiting):
                self._write(name, place)
                written[name] = place
        return sorted(place for place in written.values() if place.endswith(".md"))

    def _write(self, name: str, place: str) -> None:
        source, target = self._root / name, self._folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if not place.endswith(".md"):
            shutil.copyfile(source, target)
        elif source.is_dir():
            target.write_text(self._contents(name, place))
        elif name.endswith(".md"):
            target.write_text(self._page(name, place, source.read_text()))
        else:
            target.write_text(_shown(name, source.read_text()))

    def _page(self, name: str, place: str, text: str) -> str:
        """A page with its links turned, but not those in its blocks of code."""
        made = _MARK.sub(lambda mark: MADE[mark[1]](), text)
        return "".join(
            _block(part)
            if part.startswith("```")
            else _LINK.sub(lambda link: self._turned(name, place, link), part)
            for part in _parts(made)
        )

    def _turned(self, name: str, place: str, link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link[1]))
        relative = posixpath.relpath(self._place_of(name, target), posixpath.dirname(place) or ".")
        return f"]({relative}{link[2] or ''})"

    def _place_of(self, page: str, target: str) -> str:
        """Where the site has a file or folder; from now on it has it."""
        path = self._root / target
        if not path.exists():
            raise FileNotFoundError(f"{page} links to {target}, which does not exist")
        if path.is_dir():
            is_page = target.startswith("docs/")
            inside = target.removeprefix("docs/") if is_page else f"{FILES}/{target}"
            return self._places.setdefault(target, f"{inside}/index.md")
        return self._places.setdefault(target, f"{FILES}/{target}.md")

    def _contents(self, name: str, place: str) -> str:
        """The page of a folder: the pages in it by title, or the names of its files."""
        paths = sorted((self._root / name).iterdir())
        pages = [path for path in paths if path.suffix == ".md"]
        entries = [f"* [{_title(path)}]({name}/{path.name})" for path in pages]
        entries = entries or [f"* `{path.name}`" for path in paths if path.is_file()]
        text = "\n".join([f"# {TITLES.get(name, name)}\n", *entries, ""])
        return self._page("README.md", place, text)


def _parts(text: str) -> Iterator[str]:
    """A page cut at its blocks of code."""
    start = 0
    for block in _FENCED.finditer(text):
        yield text[start : block.start()]
        yield block[0]
        start = block.end()
    yield text[start:]


def _block(text: str) -> str:
    """A block of code; one without a language holds commands."""
    return f"```bash{text.removeprefix('```')}" if text.startswith("```\n") else text


def _shown(name: str, text: str) -> str:
    path = Path(name)
    language = _LANGUAGES.get(path.name) or _LANGUAGES.get(path.suffix, "text")
    fence = "`" * 4
    return f"# {path.name}\n\n`{name}` of the repository.\n\n{fence}{language}\n{text}\n{fence}\n"


def _title(path: Path) -> str:
    return path.read_text().partition("\n")[0].removeprefix("# ")
