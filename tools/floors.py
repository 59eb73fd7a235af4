"""The floors in docs/architecture.md from the import contracts: ``python -m tools.floors`` writes
them.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
#: Lines of the page between which the floors are written.
BEGIN = "<!-- floors: python -m tools.floors -->"
END = "<!-- end of floors -->"


def contracts(pyproject: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The contracts of import-linter that state an order of floors."""
    found = pyproject["tool"]["importlinter"]["contracts"]
    return [contract for contract in found if contract["type"] == "layers"]


def floors(contract: Mapping[str, Any]) -> list[list[str]]:
    """Rooms of each floor, the highest floor first."""
    return [re.split(r"\s*[|:]\s*", layer.strip("() ")) for layer in contract["layers"]]


def text(pyproject: Mapping[str, Any]) -> str:
    """All floors in Markdown."""
    return "\n".join(line for contract in contracts(pyproject) for line in _table(contract))


def page(before: str, pyproject: Mapping[str, Any]) -> str:
    """The page with the present floors.

    Raises:
        ValueError: the page has no place for them.
    """
    head, begin, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} needs the lines {BEGIN!r} and {END!r} around its floors")
    return f"{head}{BEGIN}\n{text(pyproject)}\n{END}{tail}"


def main() -> int:
    PAGE.write_text(page(PAGE.read_text(), tomllib.loads((ROOT / "pyproject.toml").read_text())))
    print(f"written to {PAGE}")
    return 0


def _table(contract: Mapping[str, Any]) -> Iterator[str]:
    rows = floors(contract)
    yield from (f"**{contract['name']}**", "", "| floor | rooms |", "| --: | --- |")
    for number, rooms in zip(range(len(rows), 0, -1), rows, strict=True):
        yield f"| {number} | {', '.join(f'`{room}`' for room in rooms)} |"
    yield ""


if __name__ == "__main__":
    sys.exit(main())
