"""Tables: the CSV is the whole list, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

from sqlalchemy.orm import Session

from latency_service.dashboard import tables
from latency_service.dashboard.tables import Column, Table

NOBODY = cast(Session, None)


class Row(NamedTuple):
    name: str
    latency: tuple[float, float, float] | None
    at: datetime


def row(name: str) -> Row:
    return Row(name, (4.2, 4.1, 4.3), datetime(2026, 3, 1, tzinfo=UTC))


def table(rows: list[Row], **more: Any) -> Table[Row]:
    return Table(
        caption="",
        rows=rows,
        empty="",
        columns=[
            Column(head="name", cell=lambda one: one.name),
            Column(head="latency", unit="ms", cell=lambda one: one.latency, kind="interval"),
            Column(head="at", cell=lambda one: one.at, kind="time"),
        ],
        **more,
    )


def read(one: Table[Row]) -> list[list[str]]:
    return list(csv.reader(io.StringIO("".join(one.csv_lines(NOBODY)))))


def test_an_interval_becomes_three_columns_with_their_unit() -> None:
    heads, cells = read(table([row("a")]))
    assert heads == ["name", "latency (ms)", "latency lower (ms)", "latency upper (ms)", "at"]
    assert cells == ["a", "4.2", "4.1", "4.3", "2026-03-01T00:00:00+00:00"]


def test_the_csv_has_every_row_and_not_only_those_shown() -> None:
    every = [row(str(number)) for number in range(1234)]
    assert len(read(table(every[:50], every=lambda _: iter(every)))) == 1235


def test_a_missing_interval_leaves_its_cells_empty() -> None:
    assert read(table([row("a")._replace(latency=None)]))[1][1:4] == ["", "", ""]


def test_no_text_is_run_as_a_formula_by_a_spreadsheet() -> None:
    for name in ("=1+1", "+1", "-1", "@SUM(A1)"):
        assert read(table([row(name)]))[1][0] == "'" + name


def test_a_page_shows_the_first_rows_and_the_csv_all() -> None:
    table = Table(
        caption="Rows", columns=[Column(head="n", cell=lambda row: row)], rows=range(120), empty=""
    )
    assert (len(table.shown), table.whole) == (50, 120)
    assert "".join(table.csv_lines(NOBODY)).count("\n") == 121


def test_heads_are_in_lower_case() -> None:
    folder = Path(tables.__file__).parent
    heads = [
        head
        for pattern, found in (
            ("*.py", r'head="([^"]+)"'),
            ("*.html", r'<th scope="[^>]*>([^<{]+)'),
        )
        for path in folder.rglob(pattern)
        for head in re.findall(found, path.read_text())
    ]
    assert len(heads) > 100
    assert {head for head in heads if head[0].isupper()} == {"MACs", "ONNX Runtime"}
