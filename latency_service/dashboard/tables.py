"""Tables of pages: one description gives the HTML, the CSV and the state when there is no row."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy.orm import Session

Row = TypeVar("Row")
#: Name of a page, and the parameters of its path.
Target = tuple[str, dict[str, str]]
#: How a cell is shown. `interval` takes (value, lower, upper); `prose` may take several lines.
Kind = Literal[
    "text", "number", "count", "interval", "time", "state", "duration", "code", "percent", "prose"
]

PAGE_ROWS = 50
_CHUNK_ROWS = 500
_RIGHT = frozenset({"number", "count", "interval", "duration", "percent"})


@dataclass(frozen=True, kw_only=True)
class Column(Generic[Row]):
    """One column."""

    head: str
    cell: Callable[[Row], Any]
    kind: Kind = "text"
    #: Unit of the numbers, written in the head.
    unit: str = ""
    #: Where the cell leads.
    link: Callable[[Row], Target | None] | None = None
    #: What the column means, in one line.
    meaning: str = ""
    #: Significant digits of a number.
    digits: int = 3

    @property
    def is_right(self) -> bool:
        return self.kind in _RIGHT

    def target(self, row: Row) -> Target | None:
        return self.link(row) if self.link else None

    def csv_heads(self) -> list[str]:
        unit = f" ({self.unit})" if self.unit else ""
        if self.kind == "interval":
            return [f"{self.head}{part}{unit}" for part in ("", " lower", " upper")]
        return [self.head + unit]

    def csv_cells(self, row: Row) -> list[str]:
        value = self.cell(row)
        if self.kind == "interval":
            return ["" if value is None else _plain(part) for part in (value or (None,) * 3)]
        return [_plain(value)]


@dataclass(frozen=True, kw_only=True)
class Table(Generic[Row]):
    """A list as a page shows it.

    A long list shows one page of its rows: `total` says of how many, `older` is the query that
    leads to the next, and `every` reads all of them for the CSV.
    """

    caption: str
    columns: Sequence[Column[Row]]
    rows: Sequence[Row]
    #: What a page without rows says, and the next command to type.
    empty: str
    command: str = ""
    total: int | None = None
    #: Whether a heading above says the same: the caption is for screen readers then.
    is_titled: bool = False
    older: str | None = None
    every: Callable[[Session], Iterable[Row]] | None = None
    #: Id of the row's element in the page, where something refers to it.
    row_id: Callable[[Row], str] | None = field(default=None)

    def csv_lines(self, session: Session) -> Iterator[str]:
        """The whole list as CSV, some hundred lines at a time."""
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        writer.writerow([head for column in self.columns for head in column.csv_heads()])
        for number, row in enumerate(self.every(session) if self.every else self.rows, 1):
            writer.writerow([cell for column in self.columns for cell in column.csv_cells(row)])
            if number % _CHUNK_ROWS == 0:
                yield _taken(buffer)
        yield _taken(buffer)


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text


def _plain(value: Any) -> str:
    """A value in CSV. Text that a spreadsheet would run as a formula gets an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return " ".join(_plain(part) for part in value)
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text[:1] in ("=", "+", "-", "@") else text
