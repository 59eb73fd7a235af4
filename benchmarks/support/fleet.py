"""A thousand agents in one event loop: each polls, beats and takes work as a real one does, over
connections of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Answer = tuple[int, bytes]

#: The server closes a connection that has been idle for five seconds.
KEPT_SECONDS = 4.0


class Line:
    """One keep-alive connection to the service, for one request at a time."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host = str(parts.hostname)
        self._port = int(parts.port or 80)
        self._head = f"host: {parts.netloc}\r\nauthorization: Bearer {token}\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()
        self._used_at = 0.0

    async def request(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request; the answer's status and body.

        Raises:
            OSError, EOFError: The connection cannot be made, or breaks before the answer is whole.
        """
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\n{self._head}content-length: {len(data)}\r\n"
        if data:
            head += "content-type: application/json\r\n"
        async with self._turn:
            if time.monotonic() - self._used_at > KEPT_SECONDS:
                self.close()
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = self._streams
            try:
                writer.write(head.encode() + b"\r\n" + data)
                answer = await _answer(reader)
            except (OSError, EOFError):
                self.close()
                raise
            self._used_at = time.monotonic()
            return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass(kw_only=True)
class FleetAgent:
    """One simulated agent."""

    device: str
    url: str
    token: str
    cadence: dict[str, float]
    #: When it received its leases, by the monotonic clock.
    leased_at: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: int = 0
    #: Requests whose connection was not made or broke; a real agent sends them again.
    broken: int = 0

    async def run(self) -> None:
        """Poll and beat until cancelled."""
        polls, beats = Line(self.url, self.token), Line(self.url, self.token)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._poll(polls))
                both.create_task(self._beat(beats))
        finally:
            polls.close()
            beats.close()

    async def _poll(self, line: Line) -> None:
        await asyncio.sleep(random.random() * self.cadence["wait_seconds"])
        while True:
            wait = self.cadence["wait_seconds"]
            status, body = await self._ask(line, "POST", f"/v1/leases?wait={wait:g}")
            if status == 200:
                self.leased_at.append(time.monotonic())
                await self._give_up(line, json.loads(body)["attempt_id"])
            elif status != 204:
                self.errors.append(f"lease: {status}")
            await asyncio.sleep(random.random() * self.cadence["poll_seconds"])

    async def _give_up(self, line: Line, attempt_id: str) -> None:
        failure = {"kind": "unsupported_op", "message": "simulated"}
        status, _ = await self._ask(line, "PUT", f"/v1/attempts/{attempt_id}/failure", failure)
        if status != 200:
            self.errors.append(f"failure: {status}")

    async def _beat(self, line: Line) -> None:
        await asyncio.sleep(random.random() * self.cadence["heartbeat_seconds"])
        while True:
            state = {"state": "idle", "load": 0.1}
            status, body = await self._ask(line, "POST", "/v1/agents/me/heartbeat", state)
            if status == 200:
                self.cadence = json.loads(body)["cadence"]
            else:
                self.errors.append(f"heartbeat: {status}")
            pause = self.cadence["heartbeat_seconds"] * (0.75 + 0.5 * random.random())
            await asyncio.sleep(pause)

    async def _ask(self, line: Line, method: str, path: str, body: Any = None) -> Answer:
        """The answer, after as many tries as that takes."""
        while True:
            self.requests += 1
            try:
                return await line.request(method, path, body)
            except (OSError, EOFError):
                self.broken += 1
                await asyncio.sleep(random.random() * self.cadence["poll_seconds"])


@asynccontextmanager
async def at_work(agents: list[FleetAgent]) -> AsyncIterator[None]:
    """Let the agents run while the block does.

    Raises:
        Exception: What has ended an agent.
    """
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


async def enrolled(url: str, api_token: str, device: str) -> FleetAgent:
    """A new agent, the only one of a new device."""
    people = Line(url, api_token)
    _, enrolment = await people.request("POST", "/v1/enrolments")
    people.close()
    newcomer = Line(url, json.loads(enrolment)["token"])
    status, body = await newcomer.request("POST", "/v1/agents/register", _about(device))
    newcomer.close()
    if status != 201:
        raise RuntimeError(f"{device} was not registered: {status} {body.decode()}")
    answer = json.loads(body)
    return FleetAgent(
        device=device, url=url, token=answer["agent_token"], cadence=answer["cadence"]
    )


async def _answer(reader: asyncio.StreamReader) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return status, await reader.readexactly(length)


def _about(device: str) -> dict[str, Any]:
    return {
        "device": device,
        "agent_version": "0.1.0",
        "runtime_version": "1.31.1",
        "max_opset": 21,
        "providers": ["CPUExecutionProvider"],
    }
