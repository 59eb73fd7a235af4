"""A service on a real socket in this process, with devices that compute their latencies: for tests
of its pages in a browser, and for pictures of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from sqlalchemy import select

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.app import create_app
from latency_service.db.engine import Database
from latency_service.db.migrate import upgrade
from latency_service.devices.models import Agent
from latency_service.settings import Settings
from latency_service.spaces.slicing import SearchSpace
from latency_service.training import worker
from tests.support.settings import API_TOKEN

READY_SECONDS = 120.0


@dataclass
class Site:
    """One running service."""

    url: str
    settings: Settings
    database: Database
    #: Requests with the API token.
    http: httpx2.Client
    #: Connections of agents, closed with the service.
    open: ExitStack

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        answer = self.http.post(path, json=body)
        assert answer.is_success, answer.text
        return dict(answer.json())

    def get(self, path: str) -> Any:
        answer = self.http.get(path)
        assert answer.is_success, answer.text
        return answer.json()

    def upload(self, space: SearchSpace) -> str:
        answer = self.http.post("/v1/spaces", content=space.data)
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    def agent(self, device: str, kind: type[FakeAgent] = FakeAgent, **options: Any) -> FakeAgent:
        """A new agent of a device."""
        client = self.open.enter_context(httpx2.Client(base_url=self.url, timeout=60))
        return kind(client, self.post("/v1/enrolments")["token"], device, **options)

    def sign_in_link(self) -> str:
        """A link that signs a browser in, once."""
        return self.url + str(self.post("/v1/sign-in-codes")["path"])

    def train(self) -> bool:
        """Carry out the next training job; whether one waited."""
        with self.database.write() as session:
            trainer = session.scalar(select(Agent.id).where(Agent.kind == "trainer"))
            if trainer is None:
                trainer = _register_trainer(session)
        return worker.train_next(self.database, self.settings, trainer, threading.Event())


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Site]:
    """A service with an empty database in a folder, until the block ends."""
    chosen = Settings(
        data_dir=folder,
        api_token=API_TOKEN,
        heartbeat_seconds=600,
        still_seconds=0.0,
        token_cache_seconds=0.0,
        **settings,
    )
    upgrade(chosen)
    app = create_app(chosen)
    config = uvicorn.Config(app, port=0, log_level="error", access_log=False, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{_port_of(server)}"
        with ExitStack() as opened:
            own = httpx2.Client(base_url=url, headers=bearer(API_TOKEN), timeout=60)
            http = opened.enter_context(own)
            database = app.state.database
            yield Site(url=url, settings=chosen, database=database, http=http, open=opened)
    finally:
        app.state.stopping.set()
        server.should_exit = True
        thread.join(20)


def _port_of(server: uvicorn.Server) -> int:
    deadline = time.monotonic() + READY_SECONDS
    while not server.started:
        assert time.monotonic() < deadline, "the service did not start"
        time.sleep(0.02)
    return int(server.servers[0].sockets[0].getsockname()[1])


def _register_trainer(session: Any) -> str:
    agent = Agent(
        kind="trainer",
        agent_version="0",
        runtime_version="",
        max_opset=0,
        providers=[],
        facts={},
    )
    session.add(agent)
    session.flush()
    return agent.id
