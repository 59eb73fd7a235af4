"""The HTTP server: uvicorn, except that connections are accepted here.

uvicorn learns of a connection when its TLS handshake has ended. Here every connection counts, and
its time runs, from the moment at which it is accepted.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, cast

import uvicorn

from latency_service.settings import Settings
from latency_service.web.connections import (
    LINGERING,
    TOO_MANY,
    Connection,
    Watch,
    refusal,
)

_TICKS_OF_A_SECOND = 10
#: Connections that one listener accepts before others get their turn.
_ACCEPTED_AT_ONCE = 100
#: Time until the next try when the process has no descriptor for a connection.
_AGAIN_SECONDS = 0.5


class Listener:
    """A listening socket, and its connections until uvicorn knows them."""

    def __init__(
        self,
        listening: socket.socket,
        watch: Watch,
        connections: Collection[object],
        make_connection: Callable[..., Connection],
        tls: dict[str, Any],
    ) -> None:
        """
        Args:
            connections: those that uvicorn knows.
            tls: arguments of `loop.connect_accepted_socket`; empty without TLS.
        """
        self._socket = listening
        self._watch = watch
        self._connections = connections
        self._make_connection = make_connection
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._greetings: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self._start()

    def close(self) -> None:
        """Accept nothing more."""
        self._loop.remove_reader(self._socket)
        if self._again is not None:
            self._again.cancel()
        for greeting in self._greetings:
            greeting.cancel()

    async def wait_closed(self) -> None:
        await asyncio.gather(*self._greetings, return_exceptions=True)

    def _start(self) -> None:
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, address = self._socket.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # it has gone already
            except OSError as error:
                self._watch.note("connection_refused", "not_accepted", error=str(error))
                self._loop.remove_reader(self._socket)
                self._again = self._loop.call_later(_AGAIN_SECONDS, self._start)
                return
            self._admit(accepted, address)

    def _admit(self, accepted: socket.socket, address: Any) -> None:
        accepted.setblocking(False)
        excess = self._watch.excess(self._connections)
        if excess > 0:
            self._watch.note("connection_refused", "too_many", limit=self._watch.connections)
        if excess > LINGERING:
            self._turn_away(accepted)
            return
        connection = self._make_connection(is_one_too_many=excess > 0)
        self._watch.arriving.add(connection)
        greeting = self._loop.create_task(self._greet(connection, accepted, address))
        self._greetings.add(greeting)
        greeting.add_done_callback(self._greetings.discard)

    def _turn_away(self, accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            if not self._tls:
                accepted.send(refusal(TOO_MANY))

    async def _greet(self, connection: Connection, accepted: socket.socket, address: Any) -> None:
        """Make the connection, after its TLS handshake."""
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted, **self._tls)
        except ConnectionAbortedError:
            self._watch.note("connection_closed", "it ends no TLS handshake", client=address)
        except OSError:
            pass  # it does not speak TLS, does not trust the certificate, or has gone
        finally:
            self._watch.arriving.discard(connection)


class Server(uvicorn.Server):
    """A uvicorn server that accepts its connections by `Listener`s and looks after them once a
    second.
    """

    def __init__(self, config: uvicorn.Config, watch: Watch, settings: Settings) -> None:
        super().__init__(config)
        self._watch = watch
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, and accept connections on `sockets`."""
        await super().startup(sockets=[])  # the application alone
        known = self.server_state.connections
        listeners = [
            Listener(one, self._watch, known, self._make_connection, self._tls())
            for one in sockets or ()
        ]
        # uvicorn closes them, and waits until they are closed
        self.servers = cast("list[asyncio.Server]", listeners)

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_OF_A_SECOND == 0:
            self._watch.sweep(self.server_state.connections)
        return await super().on_tick(counter)

    def _make_connection(self, *, is_one_too_many: bool) -> Connection:
        return Connection(
            self._watch,
            is_one_too_many=is_one_too_many,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )

    def _tls(self) -> dict[str, Any]:
        if self.config.ssl is None:
            return {}
        return {
            "ssl": self.config.ssl,
            "ssl_handshake_timeout": self._settings.head_seconds,
            "ssl_shutdown_timeout": self._settings.stall_seconds,
        }


def make_server(application: Any, settings: Settings) -> Server:
    """The server of `application`, with one process and its connections watched."""
    watch = Watch(settings)
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=Connection,
        ws="none",
        workers=1,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        forwarded_allow_ips=settings.trusted_proxies or "127.0.0.1",
    )
    return Server(config, watch, settings)
