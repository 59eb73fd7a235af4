"""The site is made without a warning; everything is documented on it and every link leads on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from latency_service.cli.main import app as latency_service
from latency_service.core import errors as service_errors
from latency_service.core.errors import ServiceError
from latency_service.settings import Settings
from pruning_client.cli.main import app as pruning_client
from pruning_client.errors import PruningError
from tools.documentation.__main__ import CONFIGURATION, build
from tools.documentation.api import description
from tools.documentation.commands import commands
from tools.documentation.error_sources import read
from tools.documentation.settings import settings
from tools.documentation.staging import FILES, ROOT, Staging

PROGRAMS = {"latency-service": latency_service, "pruning-client": pruning_client}
#: Ways of writing that Python-Markdown takes for text, and repositories do not.
_UNREAD = re.compile(r"\n *(\*|-|1\.|\|) ")


@dataclass
class Html(HTMLParser):
    """Anchors, links and paragraphs of a page, and what it loads."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    paragraphs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given["id"]} if "id" in given else set()
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and "href" in given:
            self.loaded.append(given["href"])
        elif "src" in given:
            self.loaded.append(given["src"])
        if tag == "p":
            self.paragraphs.append("")
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "p" in self._open and "code" not in self._open:
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gathered pages in `pages`, the site made of them in `site`."""
    made = tmp_path_factory.mktemp("documentation")
    ended = build(made)
    assert ended.returncode == 0, ended.stdout
    assert "No issues found" in ended.stdout
    return made


@pytest.fixture(scope="module")
def html(folder: Path) -> dict[Path, Html]:
    """Every page of the site, parsed."""
    found = {}
    for path in sorted((folder / "site").rglob("*.html")):
        found[path] = Html()
        found[path].feed(path.read_text())
    return found


def page(folder: Path, name: str) -> str:
    return (folder / "pages" / name).read_text()


def test_every_link_and_anchor_exists(folder: Path, html: dict[Path, Html]) -> None:
    dead = [
        f"{path.relative_to(folder)}: {link}"
        for path, parsed in html.items()
        for link in [*parsed.links, *parsed.loaded]
        if path.name != "404.html" and not leads_on(path, link, html)
    ]
    assert dead == []


def leads_on(path: Path, link: str, html: dict[Path, Html]) -> bool:
    """Whether an internal link has a target; links to other hosts are not followed."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    anchor = unquote(parts.fragment)
    if not anchor or target not in html:
        return target.is_file()
    return anchor in html[target].anchors


def test_nothing_is_loaded_from_another_host(html: dict[Path, Html]) -> None:
    foreign = {link for parsed in html.values() for link in parsed.loaded if urlsplit(link).netloc}
    assert foreign == set()


def test_lists_and_tables_are_read_as_such(html: dict[Path, Html]) -> None:
    unread = [
        f"{path.name}: {text}"
        for path, parsed in html.items()
        for text in parsed.paragraphs
        if _UNREAD.search(text)
    ]
    assert unread == []


def test_every_page_is_in_the_navigation_or_listed_by_one_that_is(folder: Path) -> None:
    navigation = yaml.safe_load((ROOT / "docs" / CONFIGURATION).read_text())["nav"]
    listed = set(leaves(navigation))
    decisions = set(re.findall(r"\((\d{4}-.*?\.md)\)", page(folder, "adr/index.md")))
    listed |= {f"adr/{name}" for name in decisions}
    pages = {
        path.relative_to(folder / "pages").as_posix() for path in (folder / "pages").rglob("*.md")
    }
    assert {name for name in pages if not name.startswith(f"{FILES}/")} == listed


def leaves(navigation: object) -> Iterator[str]:
    """The pages that a navigation names."""
    if isinstance(navigation, str):
        yield navigation
    elif isinstance(navigation, dict):
        yield from (leaf for one in navigation.values() for leaf in leaves(one))
    elif isinstance(navigation, list):
        yield from (leaf for one in navigation for leaf in leaves(one))


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_and_option_is_documented(folder: Path, program: str) -> None:
    text = page(folder, f"reference/{program}.md")
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    found = {
        name.removeprefix(f"{program} "): command
        for name, command in commands(PROGRAMS[program], program)
    }
    assert sections.keys() == found.keys()
    for name, command in found.items():
        assert command.help, f"{name} does not say what it does"
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert parameter.help, f"{name} {parameter.name} has no help"
                assert all(re.search(rf"[` ]{word}\b", sections[name]) for word in parameter.opts)


def test_every_setting_is_documented(folder: Path) -> None:
    text = page(folder, "reference/settings.md")
    for setting in settings():
        assert setting.meaning, f"{setting.variable} has no comment in settings.py"
        assert f"| `{setting.variable}` |" in text
    assert len(list(settings())) == len(Settings.model_fields)


def test_variables_that_documents_and_options_name_are_documented(folder: Path) -> None:
    reference = page(folder, "reference/settings.md")
    texts = [
        path.read_text() for path in (folder / "pages").rglob("*.md") if FILES not in str(path)
    ]
    named = {name for text in texts for name in re.findall(r"LATENCY_SERVICE(?:_[A-Z]+)+", text)}
    named |= {
        parameter.envvar
        for program, app in PROGRAMS.items()
        for _, command in commands(app, program)
        for parameter in command.params
        if parameter.envvar
    }
    assert {name for name in named if f"`{name}`" not in reference} == set()


@pytest.mark.parametrize("root", [ServiceError, PruningError])
def test_every_class_of_errors_is_documented(folder: Path, root: type[Exception]) -> None:
    text = page(folder, "reference/errors.md")
    classes = set(subclasses(root))
    assert service_errors.Overloaded in classes or root is PruningError
    for one in classes:
        assert f"| `{one.__name__}` | `{vars(one).get('code', getattr(one, 'code', ''))}` |" in text


def subclasses(root: type[Exception]) -> Iterator[type[Exception]]:
    """The classes that this program defines below a class."""
    for one in root.__subclasses__():
        if one.__module__.split(".")[0] in ("latency_service", "pruning_client"):
            yield one
            yield from subclasses(one)


def test_every_code_of_an_error_is_documented(folder: Path) -> None:
    text = page(folder, "reference/errors.md")
    packages = [ROOT / name for name in ("latency_service", "pruning_client")]
    sources = [path.read_text() for package in packages for path in package.rglob("*.py")]
    codes = {code for text_ in sources for code in re.findall(r'\bcode="(\w+)"', text_)}
    assert {"another_digest", "port_taken"} <= codes
    assert {code for code in codes if f"`{code}`" not in text} == set()


def test_cures_name_commands_that_exist() -> None:
    known = {name for program, app in PROGRAMS.items() for name, _ in commands(app, program)}
    for message in read().messages:
        for named in re.findall(
            r"(?:: |`)((?:latency-service|pruning-client)(?: [a-z-]+)+)", message.cure
        ):
            assert any(f"{named} ".startswith(f"{one} ") for one in known), message


def test_every_operation_of_the_api_is_documented(folder: Path) -> None:
    text = page(folder, "reference/api.md")
    for path, methods in description()["paths"].items():
        for method in methods:
            assert f"### {method.upper()} {path}\n" in text


def test_links_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[here](docs/nowhere.md)")
    with pytest.raises(FileNotFoundError, match=r"links to docs/nowhere\.md"):
        Staging(tmp_path, tmp_path / "pages").write()


def test_files_and_folders_of_the_repository_become_pages(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "some.py").write_text("x = 1")
    for name in ("CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    readme = "[a](data/some.py), [b](data/)\n\n```python\nx[0](data)\n```\n\n```\nmake\n```\n"
    (tmp_path / "README.md").write_text(readme)
    Staging(tmp_path, tmp_path / "pages").write()
    written = (tmp_path / "pages" / "index.md").read_text()
    assert "[a](files/data/some.py.md), [b](files/data/index.md)" in written
    assert "x[0](data)" in written
    assert "```bash\nmake\n```" in written
    assert "```python\nx = 1\n" in (tmp_path / "pages/files/data/some.py.md").read_text()
    assert "* `some.py`" in (tmp_path / "pages/files/data/index.md").read_text()
