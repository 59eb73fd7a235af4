"""Tables that are never wider than the terminal.

What does not fit loses its spare columns first, and says so; if that is not enough, each row
becomes a block with one field a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

    from latency_service.core.terminal.columns import Column

_GAP = 2
#: Narrowest column of values beside their names.
_LEAST_WIDTH = 20


def print_table(
    columns: Sequence[Column[Any]],
    cells: Sequence[Sequence[str]],
    *,
    numbers: Sequence[bool],
    console: Console | None = None,
) -> None:
    """Rows of cells [R][C] under their headings, on standard output by default.

    Args:
        numbers: whether a column holds numbers, which are aligned to the right [C].
    """
    console = console or _console()
    shown = _shortened(columns, cells)
    kept = _fitting(columns, _widths(columns, shown), console.width)
    if not kept:
        _print_blocks(console, columns, shown)
        return
    table = _table()
    for at in kept:
        table.add_column(
            columns[at].heading,
            no_wrap=not columns[at].wraps,
            overflow="fold",
            justify="right" if numbers[at] else "left",
        )
    for row in shown:
        table.add_row(*(row[at] for at in kept))
    console.print(table)
    left_out = [column.heading for at, column in enumerate(columns) if at not in kept]
    if left_out:
        names = ", ".join(left_out)
        _console(stderr=True).print(
            f"No room for: {names} (a wider terminal or --json shows them).", style="dim"
        )


def print_fields(cells: Mapping[str, str]) -> None:
    """Names and values, one a line; values below their names where both do not fit."""
    _print_named(_console(), cells)


def _shortened(columns: Sequence[Column[Any]], cells: Sequence[Sequence[str]]) -> list[list[str]]:
    return [
        [cell[: column.length] for column, cell in zip(columns, row, strict=True)] for row in cells
    ]


def _widths(columns: Sequence[Column[Any]], cells: Sequence[Sequence[str]]) -> list[int]:
    """The least width that each column needs."""
    from rich.cells import cell_len

    needed = list[int]()
    for at, column in enumerate(columns):
        longest = max(cell_len(words) for words in [column.heading, *(row[at] for row in cells)])
        needed.append(min(longest, column.wraps or longest))
    return needed


def _fitting(columns: Sequence[Column[Any]], widths: Sequence[int], room: int) -> list[int]:
    """Places of the columns that fit: all, or without the last of the spare ones; none if even the
    others do not.
    """
    kept = list(range(len(columns)))
    spare = [at for at in kept if columns[at].spare]
    while sum(widths[at] for at in kept) + _GAP * (len(kept) - 1) > room:
        if not spare:
            return []
        kept.remove(spare.pop())
    return kept


def _print_blocks(
    console: Console, columns: Sequence[Column[Any]], cells: Sequence[Sequence[str]]
) -> None:
    for number, row in enumerate(cells):
        if number:
            console.print()
        headings = [column.heading for column in columns]
        named = dict(zip(headings, row, strict=True))
        _print_named(console, {name: value for name, value in named.items() if value})


def _print_named(console: Console, cells: Mapping[str, str]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    names = max(map(len, cells), default=0)
    if names + _GAP + _LEAST_WIDTH > console.width:
        for name, value in cells.items():
            console.print(Text(name, style="bold", overflow="fold"))
            console.print(Padding(Text(value, overflow="fold"), (0, 0, 0, _GAP)))
        return
    table = _table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in cells.items():
        table.add_row(name, value)
    console.print(table)


def _table(*, show_header: bool = True) -> RichTable:
    from rich.table import Table

    return Table(
        box=None,
        pad_edge=False,
        padding=(0, _GAP, 0, 0),
        header_style="bold",
        show_header=show_header,
    )


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False)
