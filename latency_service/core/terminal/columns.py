"""Columns of tables, and values as people and programs read them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple, TypeVar

from latency_service.core.units import with_interval

Row = TypeVar("Row")


class Interval(NamedTuple):
    """A value and the limits of its interval: one cell for people, three for programs."""

    value: float
    lower: float
    upper: float


class Column(NamedTuple, Generic[Row]):
    """One column of a table."""

    heading: str
    #: Name of an attribute or entry of a row, or the function that gives the cell.
    cell: str | Callable[[Row], Any]
    #: Whether a narrow terminal leaves the column out.
    spare: bool = False
    #: Least width of cells that may take several lines, such as prose and lists; 0 for one line.
    wraps: int = 0
    #: Characters that a terminal shows of the cells, such as those that make an id unique.
    length: int | None = None
    #: Whether the cells are `Interval`s.
    interval: bool = False
    #: Format of numbers for people, such as ".3f"; by default four digits.
    form: str = ""

    def value(self, row: Row) -> Any:
        """The cell itself."""
        if callable(self.cell):
            return self.cell(row)
        return row[self.cell] if isinstance(row, dict) else getattr(row, self.cell)

    def text(self, row: Row) -> str:
        """The cell as people read it."""
        return text(self.value(row), self.form)

    def csv_headings(self) -> list[str]:
        """Headings of the cells that `csv_cells` gives."""
        if self.interval:
            return [self.heading, f"{self.heading} lower", f"{self.heading} upper"]
        return [self.heading]

    def csv_cells(self, row: Row) -> list[str]:
        """The cell for programs, or the three of an interval."""
        value = self.value(row)
        if self.interval:
            return [csv_cell(part) for part in value or (None, None, None)]
        return [csv_cell(value)]


def text(value: Any, form: str = "") -> str:
    """A value as people read it; `form` is the format of numbers."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:{form or '.4g'}}"
    if isinstance(value, int):
        return f"{value:{form}}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    if isinstance(value, Interval):
        return with_interval(*value)
    if isinstance(value, list | tuple):
        return ", ".join(text(item, form) for item in value)
    return str(value)


def csv_cell(value: Any) -> str:
    """A value in CSV, in full. Text that a spreadsheet would run as a formula gets an
    apostrophe.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return " ".join(csv_cell(item) for item in value)
    words = str(value)
    return f"'{words}" if isinstance(value, str) and words[:1] in ("=", "+", "-", "@") else words
