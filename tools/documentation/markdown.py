"""Pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

#: Code in single backticks, which stays as it is.
_CODE = re.compile(r"(`[^`]*`)")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table, and an empty one; nothing for no rows."""
    lines = [_row(row) for row in rows]
    if not lines:
        return
    yield _row(head)
    yield _row(["---"] * len(head))
    yield from lines
    yield ""


def prose(text: str) -> str:
    """A docstring or help text whose code is marked by one or two backticks, as Markdown."""
    parts = _CODE.split(text.replace("``", "`"))
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def one_line(text: str) -> str:
    """A text without line breaks."""
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", r"\*").replace("_", r"\_")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(one_line(cell).replace('|', chr(92) + '|') for cell in cells)} |"
