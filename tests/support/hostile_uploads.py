"""Uploads of hostile files to a real service, each with what was answered."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import httpx2

from tests.support.hostile_models.catalogue import MODELS, SPACES
from tests.support.hostile_models.mutations import mutated
from tests.support.hostile_models.spoiling import valid_model, valid_space

Kind = Literal["space", "model"]
_MUTATION = "mutation "


@dataclass(frozen=True, kw_only=True)
class Upload:
    kind: Kind
    name: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    kind: Kind
    name: str
    status: int
    code: str
    message: str
    seconds: float

    @property
    def is_mutation(self) -> bool:
        return self.name.startswith(_MUTATION)

    @property
    def is_accepted(self) -> bool:
        return self.status in (200, 201)

    @property
    def is_typed(self) -> bool:
        """Accepted, or refused with a reason."""
        wanted = "bad_space" if self.kind == "space" else "bad_model"
        return self.is_accepted or (
            self.status == 422 and self.code == wanted and self.message != ""
        )


def catalogue() -> Iterator[Upload]:
    """Every kind of the catalogue."""
    for name, build in SPACES.items():
        yield Upload(kind="space", name=name, content=build())
    for name, build in MODELS.items():
        yield Upload(kind="model", name=name, content=build())


def mutations(seeds: Iterable[int]) -> Iterator[Upload]:
    """A mutated space or a mutated model for each seed, in turn."""
    for seed in seeds:
        kind: Kind = "model" if seed % 2 else "space"
        valid = valid_model() if seed % 2 else valid_space()
        yield Upload(kind=kind, name=f"{_MUTATION}{seed}", content=mutated(valid, seed))


def send(url: str, token: str, uploads: Iterable[Upload], threads: int) -> Iterator[Answer]:
    """Upload all of them over `threads` connections at a time; their answers in order."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/octet-stream"}
    with (
        httpx2.Client(base_url=url, headers=headers, timeout=120.0) as client,
        ThreadPoolExecutor(threads) as pool,
    ):
        waiting: deque[Future[Answer]] = deque()
        for upload in uploads:
            waiting.append(pool.submit(_sent, client, upload))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        yield from (answer.result() for answer in waiting)


def _sent(client: httpx2.Client, upload: Upload) -> Answer:
    began = time.perf_counter()
    if upload.kind == "space":
        answer = client.post("/v1/spaces", content=upload.content)
    else:
        sha256 = hashlib.sha256(upload.content).hexdigest()
        answer = client.put(f"/v1/models/{sha256}", content=upload.content)
    seconds = time.perf_counter() - began
    error = _error(answer.content)
    return Answer(
        kind=upload.kind,
        name=upload.name,
        status=answer.status_code,
        code=error.get("code", ""),
        message=error.get("message", ""),
        seconds=seconds,
    )


def _error(content: bytes) -> dict[str, str]:
    try:
        found = json.loads(content).get("error", {})
    except ValueError:
        return {}
    return {name: str(value) for name, value in found.items()}
