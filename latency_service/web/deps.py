"""What routes ask for: settings, and one unit of work for each request.

The dependency's scope is the function: the transaction is committed before the answer is sent, so
whoever has an answer finds what it tells in the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from latency_service.core.errors import TooLarge
from latency_service.db.engine import Database
from latency_service.inspection.inspector import Inspector
from latency_service.settings import Settings


def get_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def get_inspector(request: Request) -> Inspector:
    inspector: Inspector = request.app.state.inspector
    return inspector


def _read(request: Request) -> Iterator[Session]:
    with get_database(request).read() as session:
        yield session


def _write(request: Request) -> Iterator[Session]:
    with get_database(request).write() as session:
        yield session


Config = Annotated[Settings, Depends(get_settings)]
Data = Annotated[Database, Depends(get_database)]
Judge = Annotated[Inspector, Depends(get_inspector)]
ReadSession = Annotated[Session, Depends(_read, scope="function")]
WriteSession = Annotated[Session, Depends(_write, scope="function")]


async def read_upload(request: Request, limit_bytes: int, what: str) -> bytes:
    """The body of an upload, read in pieces and refused as soon as it is over the limit.

    Raises:
        TooLarge: it is.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit_bytes:
            raise TooLarge(
                f"The {what} is larger than {limit_bytes} bytes.",
                f"Send a smaller one, or raise LATENCY_SERVICE_MAX_{what.upper()}_BYTES on the "
                "service.",
            )
    return bytes(body)
