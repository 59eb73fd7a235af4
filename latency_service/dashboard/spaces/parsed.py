"""Stored search spaces as their page shows them, parsed once: a space never changes, its id is the
hash of its content, and reading a large one takes longer than all the rest of its page.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from sqlalchemy.orm import Session

from latency_service.dashboard.spaces.graph import Graph, graph_of
from latency_service.lattices.probes import kinds_of_groups
from latency_service.spaces import repository
from latency_service.spaces.slicing import SearchSpace


@dataclass(frozen=True, kw_only=True)
class ParsedSpace:
    """What a page shows of a space's file."""

    graph: Graph
    #: Kinds of the layers of each group [G][...].
    kinds: list[list[str]]
    #: Reason of each layer that stays at full width.
    unprunable: dict[str, str]


class ParsedSpaces:
    """The spaces that were looked at last. Thread-safe.

    Args:
        capacity: maximum number of spaces kept.
    """

    def __init__(self, capacity: int = 32) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[str, ParsedSpace] = OrderedDict()
        self._lock = Lock()

    def of(self, session: Session, space_id: str) -> ParsedSpace:
        """The space with that id, which is known to be stored."""
        with self._lock:
            found = self._kept.get(space_id)
            if found is not None:
                self._kept.move_to_end(space_id)
                return found
        data = repository.space_blob(session, space_id)
        assert data is not None, "spaces are never deleted"
        found = _parse(data)
        with self._lock:
            self._kept[space_id] = found
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        return found


def _parse(data: bytes) -> ParsedSpace:
    space = SearchSpace.from_bytes(data)
    return ParsedSpace(
        graph=graph_of(space),
        kinds=kinds_of_groups(space),
        unprunable=space.manifest.unprunable,
    )
