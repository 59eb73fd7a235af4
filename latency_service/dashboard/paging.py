"""Long lists, one page at a time by key: any page costs the same, however long the list is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import func
from sqlalchemy.orm import InstrumentedAttribute, Session

from latency_service.dashboard.rows import AnyRow, AnySelect
from latency_service.dashboard.tables import PAGE_ROWS


class _Stored(Protocol):
    @property
    def id(self) -> str: ...


Stored = TypeVar("Stored", bound=_Stored)


@dataclass(frozen=True, kw_only=True)
class PageOf:
    """One page of a list, newest first."""

    rows: Sequence[AnyRow]
    #: Key of the last row where older ones follow.
    older: str | None


def newest_page(
    session: Session,
    chosen: AnySelect,
    key: InstrumentedAttribute[str],
    before: str | None,
    *,
    limit: int = PAGE_ROWS,
) -> PageOf:
    """The newest rows, or those before the row with that key. Ids of rows ascend with time."""
    ordered = chosen.add_columns(key.label("page_key")).order_by(key.desc()).limit(limit + 1)
    rows = session.execute(ordered.where(key < before) if before else ordered).all()
    older = str(rows[limit - 1].page_key) if len(rows) > limit else None
    return PageOf(rows=rows[:limit], older=older)


def cut(found: Sequence[Stored], limit: int) -> tuple[Sequence[Stored], str | None]:
    """A page of rows of which one more than `limit` was read, and the key of its last where older
    ones follow.
    """
    shown = found[:limit]
    return shown, shown[-1].id if len(found) > limit else None


def whole(session: Session, chosen: AnySelect, key: InstrumentedAttribute[Any]) -> Iterator[Any]:
    """Every row, newest first, read some hundred at a time."""
    ordered = chosen.order_by(key.desc()).execution_options(yield_per=500)
    yield from session.execute(ordered)


def count(session: Session, chosen: AnySelect) -> int:
    """How many rows a list has."""
    counted = chosen.with_only_columns(func.count(), maintain_column_froms=True)
    return int(session.scalar(counted.order_by(None)) or 0)
