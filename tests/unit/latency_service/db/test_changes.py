"""Watching a database ends when it is told to, whatever happens at that moment."""

from __future__ import annotations

import asyncio

import pytest

from latency_service.db.changes import _first


@pytest.mark.parametrize("turns", range(5))
def test_a_commit_together_with_the_end_does_not_keep_a_watcher(turns: int) -> None:
    async def watched(committed: asyncio.Event) -> None:
        while True:
            committed.clear()
            await _first(committed, 60)

    async def main() -> bool:
        committed = asyncio.Event()
        watcher = asyncio.create_task(watched(committed))
        await asyncio.sleep(0.01)
        committed.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        watcher.cancel()
        await asyncio.wait([watcher], timeout=5)
        return watcher.cancelled()

    assert asyncio.run(main())
