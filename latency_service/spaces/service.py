"""Search spaces, judged without being run and stored once by their hash."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import OrderedDict

from sqlalchemy.orm import Session

from latency_service.core.errors import BadRequest, NotFound
from latency_service.db.base import insert_unless_known
from latency_service.inspection.inspector import Place
from latency_service.inspection.wire import Limits, Refused
from latency_service.spaces import inspection, repository
from latency_service.spaces.errors import SpaceError
from latency_service.spaces.models import Space
from latency_service.spaces.schemas import SpaceView, WidthGroup
from latency_service.spaces.slicing import SearchSpace

#: Module of the judgement, which runs in another process.
INSPECTION = "latency_service.spaces.inspection"


class _Parsed:
    """The spaces used last, by their ids, which name their content. Thread-safe."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._spaces: OrderedDict[str, SearchSpace] = OrderedDict()

    def get(self, space_id: str) -> SearchSpace | None:
        with self._lock:
            found = self._spaces.get(space_id)
            if found is not None:
                self._spaces.move_to_end(space_id)
            return found

    def put(self, space: SearchSpace) -> None:
        with self._lock:
            self._spaces[space.id] = space
            while len(self._spaces) > 1 and self._size_bytes() > self._most_bytes:
                self._spaces.popitem(last=False)

    def _size_bytes(self) -> int:
        return sum(len(space.data) for space in self._spaces.values())


#: Files of usual spaces take some 50 kB, and parsed some ten times as much.
_parsed = _Parsed(most_bytes=4 << 20)


async def judge(place: Place, limits: Limits, data: bytes) -> Space:
    """The row of an uploaded space. The file is read in a process with limits, never here.

    Raises:
        SpaceError: it is not a search space, or goes over a limit; the message says why.
    """
    try:
        columns = await place.judge(f"{INSPECTION}:inspect", data, limits)
    except Refused as refused:
        raise SpaceError(refused.message) from refused
    digest = await asyncio.to_thread(hashlib.sha256, data)
    return Space(id=digest.hexdigest(), is_probe=False, blob=data, **columns)


def describe(space: SearchSpace, *, is_probe: bool = False) -> Space:
    """Row of a space that the service made itself. Reads the whole graph, so call it outside a
    write transaction.

    Raises:
        SpaceError: shapes cannot be inferred.
    """
    return Space(id=space.id, is_probe=is_probe, blob=space.data, **inspection.describe(space))


def store(session: Session, row: Space) -> tuple[Space, bool]:
    """Store a space; return the stored row and whether it is new."""
    known = repository.space(session, row.id)
    if known is None:
        if insert_unless_known(session, row):
            return row, True
        known = repository.space(session, row.id)
        assert known is not None, "spaces are never deleted"
    if known.is_probe and not row.is_probe:
        known.is_probe = False
    return known, False


def get_space(session: Session, id_or_prefix: str) -> Space:
    """Space with this id, or the only one whose id begins with it.

    Raises:
        NotFound: no id begins with it.
        BadRequest: several ids begin with it.
    """
    found = repository.spaces_like(session, id_or_prefix.lower())
    if not found:
        raise NotFound(
            f"There is no search space {id_or_prefix!r}.",
            "List them with: latency-service spaces list. Upload one with: latency-service "
            "spaces create FILE",
        )
    if len(found) > 1:
        raise BadRequest(
            f"Several search spaces begin with {id_or_prefix!r}.", "Give more digits of the id."
        )
    return found[0]


def load(session: Session, space_id: str) -> SearchSpace:
    """The stored space, parsed. Parsing a large one takes a second, so let whoever is about to need
    it in a writing transaction load it before: the last ones are remembered.
    """
    known = _parsed.get(space_id)
    if known is None:
        blob = repository.space_blob(session, space_id)
        assert blob is not None, "spaces are never deleted"
        known = SearchSpace.from_bytes(blob)
        _parsed.put(known)
    return known


def show(space: Space) -> SpaceView:
    return SpaceView(
        id=space.id,
        name=space.name,
        groups=[WidthGroup.model_validate(group) for group in space.groups],
        opset=space.opset,
        inputs=space.inputs,
        bytes=space.size_bytes,
        parameters=space.parameters,
        macs=space.macs,
        created_at=space.created_at,
    )
