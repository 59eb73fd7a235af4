"""When a connection is closed, told from its clock: the cases that no client can bring about at
will.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from latency_service.settings import Settings
from latency_service.web import connections
from latency_service.web.connections import Connection, Watch

HEAD_SECONDS, STALL_SECONDS = 10, 30
BEGUN = b"POST /signin HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n"
TOO_SLOW = "it sends its body too slowly"


class Wire(asyncio.Transport):
    """A transport that keeps what is written: the client takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._closes = False

    def close(self) -> None:
        self._closes = True

    def is_closing(self) -> bool:
        return self._closes

    def write(self, data: object) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def looks(self, connection: Connection, seconds: int) -> str | None:
        """What the last of the looks at a connection says, one each second."""
        found = None
        for _ in range(seconds):
            self.now += 1.0
            found = connection.overdue(self.now)
        return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(connections, "time", made)
    return made


@pytest.fixture
def watch(clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr(connections, "allow_connections", lambda most: most)
    settings = Settings(data_dir=tmp_path, head_seconds=HEAD_SECONDS, stall_seconds=STALL_SECONDS)
    return Watch(settings)


@asynccontextmanager
async def connected(
    watch: Watch, may_read: asyncio.Event | None = None
) -> AsyncIterator[Connection]:
    """A connection to an application that reads, from when it may, and does not answer."""

    async def application(_scope: Scope, receive: Receive, _send: Send) -> None:
        if may_read is not None:
            await may_read.wait()
        while True:
            await receive()

    config = uvicorn.Config(application, http=Connection, lifespan="off", log_config=None)
    state = ServerState()
    connection = Connection(watch, config=config, server_state=state, app_state={})
    connection.connection_made(Wire())
    try:
        yield connection
    finally:
        for task in state.tasks:
            task.cancel()


def test_who_waits_for_the_service_to_read_is_not_slow(clock: Clock, watch: Watch) -> None:
    async def scenario() -> None:
        may_read = asyncio.Event()
        async with connected(watch, may_read) as connection:
            connection.data_received(BEGUN + bytes(100_000))
            assert connection.flow.read_paused
            assert clock.looks(connection, 10 * STALL_SECONDS) is None
            may_read.set()
            await asyncio.sleep(0.01)
            assert not connection.flow.read_paused
            assert clock.looks(connection, STALL_SECONDS - 1) is None
            assert clock.looks(connection, 2) == TOO_SLOW

    asyncio.run(scenario())


def test_haste_at_first_earns_no_sloth_later(clock: Clock, watch: Watch) -> None:
    async def scenario() -> None:
        async with connected(watch) as connection:
            connection.data_received(BEGUN)
            for _ in range(10):
                connection.data_received(bytes(60_000))
                await asyncio.sleep(0.01)
            for _ in range(2 * STALL_SECONDS):
                connection.data_received(b"x")
                found = clock.looks(connection, 1)
            assert found == TOO_SLOW

    asyncio.run(scenario())


@pytest.mark.parametrize(("bytes_per_second", "found"), [(900, TOO_SLOW), (1050, None)])
def test_the_slowest_line_sends_a_kibibyte_a_second(
    bytes_per_second: int, found: str | None, clock: Clock, watch: Watch
) -> None:
    async def scenario() -> None:
        async with connected(watch) as connection:
            connection.data_received(BEGUN)
            for _ in range(900):
                connection.data_received(bytes(bytes_per_second))
                await asyncio.sleep(0)
                seen = clock.looks(connection, 1)
                if seen is not None:
                    break
            assert seen == found

    asyncio.run(scenario())


def test_who_does_not_take_the_rest_of_an_answer_is_closed(clock: Clock, watch: Watch) -> None:
    async def scenario() -> None:
        async with connected(watch, asyncio.Event()) as connection:
            connection.timeout_keep_alive_task = asyncio.get_running_loop().call_later(60, print)
            assert clock.looks(connection, 10 * STALL_SECONDS) is None
            connection.timeout_keep_alive_handler()
            assert clock.looks(connection, STALL_SECONDS) is None
            assert clock.looks(connection, 2) == "it does not take its answer"
            connection.timeout_keep_alive_task.cancel()

    asyncio.run(scenario())
