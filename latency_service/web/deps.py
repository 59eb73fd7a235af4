"""What routes ask for: settings, and one unit of work for each request.

The dependency's scope is the function: the transaction is committed before the answer is sent, so
whoever has an answer finds what it tells in the database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import Depends, Query, Request
from sqlalchemy.orm import Session

from latency_service.db.engine import Database
from latency_service.inspection.inspector import Inspector, Place
from latency_service.settings import Settings
from latency_service.web.bodies import BodyLimits, read_body


def get_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _take_place(request: Request) -> AsyncIterator[Place]:
    inspector: Inspector = request.app.state.inspector
    with inspector.place(request.state.principal.token_id) as place:
        yield place


def _read(request: Request) -> Iterator[Session]:
    with get_database(request).read() as session:
        yield session


def _write(request: Request) -> Iterator[Session]:
    with get_database(request).write() as session:
        yield session


Config = Annotated[Settings, Depends(get_settings)]
Data = Annotated[Database, Depends(get_database)]
#: Taken before the upload is read: the service is overloaded where there is none.
JudgingPlace = Annotated[Place, Depends(_take_place, scope="function")]
#: A page of a list: so many rows at most, after the first `offset` of them.
Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000)]
ReadSession = Annotated[Session, Depends(_read, scope="function")]
WriteSession = Annotated[Session, Depends(_write, scope="function")]


async def read_upload(request: Request, what: str) -> bytes:
    """The body of an upload of kind `what`, whose limit is the setting ``max_WHAT_bytes``.

    Raises:
        TooLarge: it is larger.
        BadRequest: it is compressed.
        Overloaded: too much of others is held in memory.
    """
    limits = BodyLimits.of(get_settings(request), what, kind="upload")
    return await read_body(request, limits)
