"""The page docs/benchmarks.md and the README's numbers, from the committed results.

``python -m benchmarks.support.tables`` writes both.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.support.harness import RESULTS
from benchmarks.support.headlines import headlines
from benchmarks.support.summaries import SUMMARIES, Rows

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
#: Lines of the README between which its numbers are written.
BEGIN = "<!-- numbers: python -m benchmarks.support.tables -->"
END = "<!-- end of numbers -->"
#: With more bars than this, only those that do not hold are listed.
MAX_BARS = 25
_HEAD = """\
# Benchmarks

Every figure that this project states, from the committed results in
[benchmarks/results](../benchmarks/results): this page is written by
`python -m benchmarks.support.tables`, and a test compares the two. `python -m benchmarks` lists the
benchmarks, `python -m benchmarks NAME` runs one and replaces its result. A *bar* is a limit that
was set before the run; one that does not hold is listed like the others.

Networks are for 32x32 images unless their name says otherwise; one thread, batch 1, fp32, ONNX
Runtime's CPU provider, on a virtual machine whose neighbours disturb it now and then.
"""
#: Packages whose version a section shows.
_VERSIONS = ("python", "onnxruntime", "torch")


def results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """All results, by name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def readme(text: str, documents: Sequence[dict[str, Any]]) -> str:
    """The README with the present numbers.

    Raises:
        ValueError: it has no place for them.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README} needs the lines {BEGIN!r} and {END!r} around its numbers")
    rows = headlines({document["name"]: document for document in documents})
    return "\n".join([f"{head}{BEGIN}", *markdown(rows)]) + f"{END}{tail}"


def page(documents: Sequence[dict[str, Any]]) -> str:
    """The whole page in Markdown."""
    contents = [f"- [{document['name']}](#{document['name']})" for document in documents]
    sections = ["\n".join(section(document)) for document in documents]
    return "\n".join([_HEAD, *contents, "", *sections])


def section(document: dict[str, Any]) -> Iterator[str]:
    """The lines of one benchmark's section."""
    name: str = document["name"]
    yield f"## {name}\n"
    yield f"{about(name)}\n"
    yield f"{origin(document)}\n"
    yield from bars(document["bars"])
    if name not in SUMMARIES:
        yield from markdown(document["rows"])
    for summary in SUMMARIES.get(name, ()):
        yield f"{inspect.getdoc(summary)}\n"
        yield from markdown(summary(document["data"]))


def about(name: str) -> str:
    """First paragraph of the docstring of a benchmark's module."""
    module = importlib.import_module(f"benchmarks.cases.{name.replace('-', '_')}")
    return " ".join((inspect.getdoc(module) or "").split("\n\n")[0].split())


def origin(document: dict[str, Any]) -> str:
    """Date, commit, machine and versions of a result."""
    machine, versions = document["machine"], document["versions"]
    packages = ", ".join(f"{name} {versions[name]}" for name in _VERSIONS if name in versions)
    return (
        f"{document['date'][:10]}, commit `{document['commit']}`, {machine['processor']} with "
        f"{machine['cores']} cores, load {machine['load_before']} before the run, {packages}."
    )


def bars(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The table of bars; of many, the missed ones."""
    missed = [bar for bar in found if not bar["holds"]]
    shown = found
    if len(found) > MAX_BARS:
        yield f"{len(found) - len(missed)} of {len(found)} bars hold; the others:\n"
        shown = missed
    yield from markdown(
        [
            {
                "bar": bar["bar"],
                "value": f"{number(bar['value'])} {bar['unit']}".strip(),
                "limit": number(bar["limit"]),
                "holds": "yes" if bar["holds"] else "**no**",
            }
            for bar in shown
        ]
    )


def number(value: float) -> str:
    """Four digits, and all those before the decimal point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def markdown(rows: Rows) -> Iterator[str]:
    """A table in Markdown and an empty line; nothing for no rows."""
    if not rows:
        return
    yield _line(rows[0])
    yield _line(["---"] * len(rows[0]))
    for row in rows:
        yield _line(row.values())
    yield ""


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> int:
    documents = results()
    PAGE.write_text(page(documents))
    README.write_text(readme(README.read_text(), documents))
    print(f"written to {PAGE} and {README}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
