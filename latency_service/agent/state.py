"""What an agent keeps on its device: who it is, the spaces it has fetched, and results not yet
delivered.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from latency_service.core.files import create_whole, remove_drafts, write_whole
from latency_service.devices.schemas import Cadence

log = structlog.get_logger(__name__)

_KEY = re.compile(rb"[0-9a-f]{64}")


class Identity(BaseModel):
    """What registration brought."""

    model_config = ConfigDict(frozen=True)

    server: str
    device: str
    agent_id: str
    agent_token: str
    cadence: Cadence


class State:
    """The agent's folder. Files appear whole or not at all; the token is readable by its owner
    only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._spool = folder / "spool"
        self._refused = folder / "refused"
        self._spaces = folder / "spaces"
        for each in (folder, self._spool, self._spaces):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
            remove_drafts(each)

    def identity(self) -> Identity | None:
        """Who this agent is; nothing before it has registered."""
        try:
            return Identity.model_validate_json((self.folder / "identity.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def keep_identity(self, identity: Identity) -> None:
        write_whole(self.folder / "identity.json", identity.model_dump_json().encode())

    def registration_key(self) -> str:
        """Secret with which this agent may repeat its registration; drawn once."""
        path = self.folder / "registration.key"
        key = secrets.token_hex(32)
        if create_whole(path, key.encode()):
            return key
        known = path.read_bytes()
        if _KEY.fullmatch(known):
            return known.decode()
        write_whole(path, key.encode())  # the power went while it was written
        return key

    def space(self, sha256: str, fetch: Callable[[str], bytes]) -> bytes:
        """A search space's file: the one kept here if its hash is right, otherwise fetched and
        kept.
        """
        path = self._spaces / f"{sha256}.onnx"
        if path.exists():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
        data = fetch(sha256)
        write_whole(path, data)
        return data

    def spool(self, attempt_id: str, result: bytes) -> None:
        """Keep a result until it is delivered."""
        write_whole(self._spool / f"{attempt_id}.json", result)

    def spooled(self) -> Iterator[tuple[str, bytes]]:
        """Results not yet delivered, oldest first: attempt and bytes. One that is not whole, since
        the power went before the disk had it, is put aside: its job is given out again.
        """
        for path in sorted(self._spool.glob("*.json"), key=_written):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue  # delivered meanwhile
            if _is_whole(data):
                yield path.stem, data
            else:
                kept = self.refused(path.stem)
                log.error("result_damaged", attempt=path.stem, kept=str(kept))

    def delivered(self, attempt_id: str) -> None:
        (self._spool / f"{attempt_id}.json").unlink(missing_ok=True)

    def refused(self, attempt_id: str) -> Path:
        """Put a result aside that the service will not take; where it lies now."""
        self._refused.mkdir(exist_ok=True, mode=0o700)
        target = self._refused / f"{attempt_id}.json"
        os.replace(self._spool / f"{attempt_id}.json", target)
        return target


def _is_whole(result: bytes) -> bool:
    try:
        json.loads(result)
    except ValueError:
        return False
    return True


def _written(path: Path) -> float:
    """When; of a file that is gone meanwhile, never."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0
