"""Tables of pages: one description gives the HTML, the CSV and the state when there is no row."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from sqlalchemy.orm import Session

Row = TypeVar("Row")
#: Name of a page, and the parameters of its path.
Target = tuple[str, dict[str, str]]
#: How a cell is shown. `interval` takes (value, lower, upper); `prose` may take several lines.
Kind = Literal["text", "number", "count", "interval", "time", "state", "duration", "code", "prose"]

PAGE_ROWS = 50
#: Width groups and layers of a network: their tables are looked through as a whole.
MOST_GROUPS = 300
_CHUNK_ROWS = 500
_RIGHT = frozenset({"number", "count", "interval", "duration"})


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

    A long list shows its first rows, and the CSV has all: `rows`, or what `every` reads where
    `rows` is one page of a list, of which `total` says how long it is and `older` which query leads
    to the next.
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

    #: Maximum number of rows that a page shows.
    most: int = PAGE_ROWS

    @property
    def shown(self) -> Sequence[Row]:
        return self.rows[: self.most]

    @property
    def whole(self) -> int | None:
        """Number of rows of the whole list; None where all are shown."""
        is_cut = len(self.rows) > self.most
        return len(self.rows) if self.total is None and is_cut else self.total

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
