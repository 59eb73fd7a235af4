"""One result in every form: a terminal of any width, a pipe, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from latency_service.core.terminal.columns import Column, Interval
from latency_service.core.terminal.output import Output, Table, print_table

ROWS: list[dict[str, Any]] = [
    {
        "id": "0123456789abcdef",
        "ms": Interval(1.25, 1.24, 1.26),
        "at": datetime(2025, 6, 1, tzinfo=UTC),
        "note": "=1+1",
        "ok": True,
        "missing": None,
    }
]
COLUMNS: list[Column[dict[str, Any]]] = [
    Column("id", "id", length=8),
    Column("ms", "ms", interval=True),
    Column("ok", "ok"),
    Column("note", "note", wraps=12),
    Column("missing", "missing", spare=True),
    Column("at", "at", spare=True),
]
ALL = "id        ms                    ok   note  missing  at"


def drawn(width: int) -> list[str]:
    """Lines of the table in a terminal."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_table(Table(rows=ROWS, columns=COLUMNS, empty="none"), console)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_wide_terminal_gets_every_column() -> None:
    head, row = drawn(100)
    assert head == ALL
    assert row == ("01234567  1.250 [1.240, 1.260]  yes  =1+1        -  2025-06-01 00:00:00Z")


def test_spare_columns_give_way_and_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert drawn(len(ALL))[0] == ALL.removesuffix("  at")
    assert "No room for: at" in capsys.readouterr().err


def test_a_narrow_terminal_gets_a_block_for_each_row() -> None:
    lines = drawn(30)
    assert lines[:2] == ["id       01234567", "ms       1.250 [1.240, 1.260]"]
    assert max(map(len, lines)) <= 30


def test_a_pipe_gets_whole_cells_between_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(ROWS, COLUMNS, "none")
    head, row = capsys.readouterr().out.splitlines()
    assert head.split("\t") == [column.heading for column in COLUMNS]
    assert row.split("\t")[:2] == ["0123456789abcdef", "1.250 [1.240, 1.260]"]


def test_csv_has_full_values_and_no_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    Output("csv").table(ROWS, COLUMNS, "none")
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row == {
        "id": "0123456789abcdef",
        "ms": "1.25",
        "ms lower": "1.24",
        "ms upper": "1.26",
        "ok": "true",
        "note": "'=1+1",
        "missing": "",
        "at": "2025-06-01T00:00:00+00:00",
    }


def test_a_record_is_its_fields_and_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    parts = Table(rows=ROWS, columns=COLUMNS[:1], empty="none")
    Output().record({}, {"name": "a b"}, parts)
    assert capsys.readouterr().out.splitlines() == ["name\ta b", "", "id", "0123456789abcdef"]
    Output("csv").record({}, {"name": "a"}, parts)
    assert capsys.readouterr().out.splitlines() == ["id", "0123456789abcdef"]
    Output("csv").fields({"name": "a", "count": 3})
    assert capsys.readouterr().out.splitlines() == ["name,count", "a,3"]
    Output("json").record({"name": "a"}, {}, parts)
    assert json.loads(capsys.readouterr().out) == {"name": "a"}
