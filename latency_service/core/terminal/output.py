"""What a command shows, in the form that its reader asks for.

A terminal gets tables that fit it. A pipe or a file gets the same text as tab-separated lines,
nothing shortened and nothing left out; ``--json`` gives what the service itself sends, ``--csv``
one table with full precision. The result goes to standard output, everything else to standard
error.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal

from latency_service.core.terminal import tables
from latency_service.core.terminal.columns import Column, Interval, Row, text

if TYPE_CHECKING:
    from rich.console import Console

Form = Literal["text", "json", "csv"]


@dataclass(frozen=True, kw_only=True)
class Table(Generic[Row]):
    """Rows and their columns; `empty` is said on standard error where there is no row."""

    rows: Sequence[Row]
    columns: Sequence[Column[Row]]
    empty: str


@dataclass(frozen=True)
class Output:
    """Prints results in one form."""

    form: Form = "text"

    @property
    def is_text(self) -> bool:
        """Whether people read it: then remarks and next commands are welcome."""
        return self.form == "text"

    def table(self, rows: Sequence[Row], columns: Sequence[Column[Row]], empty: str) -> None:
        """Show a list; in JSON the rows as they are."""
        if self.form == "json":
            print_json(rows)
        elif self.form == "csv":
            _print_csv(rows, columns)
        else:
            print_table(Table(rows=rows, columns=columns, empty=empty))

    def record(self, value: Any, fields: Mapping[str, Any], *parts: Table[Any]) -> None:
        """Show one thing: its fields, then the tables of its parts.

        In JSON it is the value as it is. In CSV it is the first table, or the fields as one row
        where there is none.
        """
        if self.form == "json":
            print_json(value)
        elif self.form == "text":
            _print_fields(fields)
            for number, part in enumerate(parts):
                if fields or number:
                    print()
                print_table(part)
        elif parts:
            _print_csv(parts[0].rows, parts[0].columns)
        else:
            _print_csv([fields], [_field_column(name, fields[name]) for name in fields])

    def fields(self, fields: Mapping[str, Any]) -> None:
        """Show named values."""
        self.record(fields, fields)

    def stream(self, rows: Iterable[Row], columns: Sequence[Column[Row]]) -> Iterator[Row]:
        """Show rows as they come, and pass them on: lines of JSON, or of CSV under their
        headings.
        """
        if self.form == "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow([name for column in columns for name in column.csv_headings()])
        for row in rows:
            if self.form == "csv":
                writer.writerow([cell for column in columns for cell in column.csv_cells(row)])
                sys.stdout.flush()
            else:
                print_line(row)
            yield row

    def remark(self, line: str) -> None:
        """Say something to people, on standard error."""
        if self.is_text:
            say(line)


def print_table(table: Table[Any], console: Console | None = None) -> None:
    """A table for people, on standard output by default."""
    if not table.rows:
        say(table.empty)
        return
    cells = [[column.text(row) for column in table.columns] for row in table.rows]
    if console or sys.stdout.isatty():
        numbers = [_is_number(column, table.rows) for column in table.columns]
        tables.print_table(table.columns, cells, numbers=numbers, console=console)
    else:
        _print_tabbed([[column.heading for column in table.columns], *cells])


def print_json(value: Any) -> None:
    """One JSON document: a view, a list of views, or plain values."""
    print(json.dumps(decoded(value), indent=2))


def print_line(value: Any) -> None:
    """One JSON document on one line, flushed: for programs that follow along."""
    print(json.dumps(decoded(value), separators=(",", ":")), flush=True)


def decoded(value: Any) -> Any:
    """Views as the service itself sends them."""
    if isinstance(value, list | tuple):
        return [decoded(entry) for entry in value]
    if isinstance(value, dict):
        return {name: decoded(entry) for name, entry in value.items()}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def say(line: str) -> None:
    """One line on standard error."""
    print(line, file=sys.stderr, flush=True)


def report_error(message: str, cure: str, code: str, *, as_json: bool) -> None:
    """The cause and the cure on standard error."""
    if as_json:
        say(json.dumps({"error": {"code": code, "message": message, "cure": cure}}))
        return
    from rich.console import Console

    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    console.print(message, style="red")
    if cure:
        console.print(cure)


def _print_csv(rows: Iterable[Row], columns: Sequence[Column[Row]]) -> None:
    for _ in Output("csv").stream(rows, columns):
        pass


def _is_number(column: Column[Row], rows: Sequence[Row]) -> bool:
    values = [column.value(row) for row in rows]
    return all(isinstance(one, int | float | None) for one in values) and not any(
        isinstance(one, bool) for one in values
    )


def _field_column(name: str, value: Any) -> Column[Mapping[str, Any]]:
    return Column(name, name, interval=isinstance(value, Interval))


def _print_fields(fields: Mapping[str, Any]) -> None:
    cells = {name: text(value) for name, value in fields.items()}
    if sys.stdout.isatty():
        tables.print_fields(cells)
    else:
        _print_tabbed(cells.items())


def _print_tabbed(lines: Iterable[Sequence[str]]) -> None:
    """Tab-separated lines; white space within a cell is one blank."""
    for cells in lines:
        print("\t".join(" ".join(cell.split()) for cell in cells))
