"""A small TCP proxy that spoils some of the requests that pass through it.

One connection carries one request: the proxy has both sides close it after the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from types import TracebackType
from typing import Protocol, Self, TypeVar

#: Shortest and longest stall, s: longer than a lease of the runs, shorter than a client's patience.
STALL_SECONDS = (0.2, 6.0)
_MAX_HEAD_BYTES = 64 << 10
_PAGE = b"<html><head><title>Sign in</title></head><body>Please sign in.</body></html>"
_CONNECTION = re.compile(rb"\r\nconnection:[^\r]*", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
#: SO_LINGER of zero seconds: closing sends a reset.
_RESET = struct.pack("ii", 1, 0)


R = TypeVar("R")


class Fault(StrEnum):
    """What happens to a request."""

    RESET_BEFORE = "reset before the service has the request"
    RESET_AFTER = "reset in place of the answer"
    STALL_BEFORE = "stall before the service has the request"
    STALL_AFTER = "stall before the answer"
    HALF_CLOSE = "end of the stream in the middle of the request"
    CUT = "end of the stream in the middle of the answer"
    REPLAY = "the request reaches the service after its client has been reset"
    HTML = "a page with status 200 in place of the answer"
    TOO_MANY = "429 with Retry-After"
    BAD_GATEWAY = "502 from a proxy"


class _Forward(Protocol):
    def __call__(self, request: bytes, *, is_whole: bool = True) -> Awaitable[bytes]:
        """Send a request, or the beginning of one, to the service; gives its answer."""


@dataclass(kw_only=True)
class _Exchange:
    """A request, both directions of its client, and the way to the service."""

    request: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    stall_seconds: float
    forward: _Forward

    def answer(self, data: bytes) -> None:
        self.writer.write(data)

    def reset(self) -> None:
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.writer.transport.abort()

    async def forwarded(self, *, is_whole: bool = True) -> bytes:
        """The answer of the service; the request is taken back when its client goes away."""
        request = self.request if is_whole else self.request[: len(self.request) // 2]
        answer = asyncio.ensure_future(self.forward(request, is_whole=is_whole))
        gone = asyncio.ensure_future(self.reader.read(1))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ConnectionError("the client is gone")
            return answer.result()
        finally:
            answer.cancel()
            gone.cancel()


class FaultProxy:
    """A proxy on a port of its own, in a thread, before several ports of this machine.

    Args:
        ports: where the service listens; each request starts with the next of them.
        share: share of the requests that are spoiled; may be set at any time.
    """

    def __init__(self, ports: Sequence[int], *, share: float, seed: int) -> None:
        self.share = share
        #: Number of spoiled requests of each kind, and of answers of the service by their status.
        self.faults: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        #: What went wrong in the proxy itself.
        self.errors: list[str] = []
        self._ports = ports
        self._turn = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(
            asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_MAX_HEAD_BYTES)
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Awaitable[R]) -> R:
        async def awaited() -> R:
            return await coroutine

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result()

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # the loop itself keeps no task from being collected as garbage
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.errors.append(f"the proxy: {type(error).__name__}: {error}")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                request = await _request_of(reader)
                exchange = _Exchange(
                    request=request,
                    reader=reader,
                    writer=writer,
                    stall_seconds=self._random.uniform(*STALL_SECONDS),
                    forward=self._forward,
                )
                await self._handler(request)(exchange)
        finally:
            with contextlib.suppress(OSError):
                writer.close()
                await writer.wait_closed()

    def _handler(self, request: bytes) -> Callable[[_Exchange], Awaitable[None]]:
        if self._random.random() >= self.share:
            return _pass_on
        fault = self._random.choice(list(Fault))
        if fault is Fault.REPLAY and request.startswith(b"POST /v1/agents/register"):
            fault = Fault.RESET_AFTER  # a registration of the past would displace the agent
        self.faults[fault.value] += 1
        return _HANDLERS[fault]

    async def _forward(self, request: bytes, *, is_whole: bool = True) -> bytes:
        reader, writer = await self._connected()
        try:
            writer.write(request)
            if not is_whole:
                writer.write_eof()
            answer = await reader.read()
        finally:
            writer.close()
        if status := _STATUS.match(answer):
            self.statuses[status[1].decode()] += 1
        return answer

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        first = next(self._turn)
        for offset in range(len(self._ports)):
            port = self._ports[(first + offset) % len(self._ports)]
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        raise ConnectionError("no replica listens")


async def _request_of(reader: asyncio.StreamReader) -> bytes:
    """The next request, which asks for the connection to be closed after the answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length else b""
    head = _CONNECTION.sub(b"", head).removesuffix(b"\r\n")
    return head + b"connection: close\r\n\r\n" + body


def _answer(status: str, *headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        "content-type: text/html",
        f"content-length: {len(_PAGE)}",
        "connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + _PAGE


async def _pass_on(exchange: _Exchange) -> None:
    answer = await exchange.forwarded()
    if answer:
        exchange.answer(answer)
    else:  # the service died
        exchange.reset()


async def _reset_before(exchange: _Exchange) -> None:
    exchange.reset()


async def _reset_after(exchange: _Exchange) -> None:
    await exchange.forwarded()
    exchange.reset()


async def _stall_before(exchange: _Exchange) -> None:
    await asyncio.sleep(exchange.stall_seconds)
    await _pass_on(exchange)


async def _stall_after(exchange: _Exchange) -> None:
    answer = await exchange.forwarded()
    await asyncio.sleep(exchange.stall_seconds)
    exchange.answer(answer)


async def _half_close(exchange: _Exchange) -> None:
    await exchange.forwarded(is_whole=False)
    exchange.writer.write_eof()


async def _cut(exchange: _Exchange) -> None:
    answer = await exchange.forwarded()
    head, separator, body = answer.partition(b"\r\n\r\n")
    exchange.answer(head + separator + body[: len(body) // 2] if body else head[: len(head) // 2])


async def _replay(exchange: _Exchange) -> None:
    exchange.reset()
    await asyncio.sleep(exchange.stall_seconds)
    await exchange.forward(exchange.request)


async def _html(exchange: _Exchange) -> None:
    exchange.answer(_answer("200 OK"))


async def _too_many(exchange: _Exchange) -> None:
    exchange.answer(_answer("429 Too Many Requests", "retry-after: 1"))


async def _bad_gateway(exchange: _Exchange) -> None:
    exchange.answer(_answer("502 Bad Gateway"))


_HANDLERS: dict[Fault, Callable[[_Exchange], Awaitable[None]]] = {
    Fault.RESET_BEFORE: _reset_before,
    Fault.RESET_AFTER: _reset_after,
    Fault.STALL_BEFORE: _stall_before,
    Fault.STALL_AFTER: _stall_after,
    Fault.HALF_CLOSE: _half_close,
    Fault.CUT: _cut,
    Fault.REPLAY: _replay,
    Fault.HTML: _html,
    Fault.TOO_MANY: _too_many,
    Fault.BAD_GATEWAY: _bad_gateway,
}
