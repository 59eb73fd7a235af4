"""Delivered model files: judged without being run, stored once, removed when measured."""

from __future__ import annotations

import asyncio
import hashlib

from sqlalchemy.orm import Session

from latency_service.core.errors import BadRequest, NotFound
from latency_service.db.base import insert_unless_known
from latency_service.inspection.inspector import Place
from latency_service.inspection.wire import Limits, Refused
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs.models import Job
from latency_service.model_files import repository
from latency_service.model_files.models import ModelFile

#: Age at which the next upload removes a file whose verification nobody asked for.
FORGOTTEN_SECONDS = 24 * 3600.0
#: Module of the judgement, which runs in another process.
INSPECTION = "latency_service.model_files.inspection"
#: Memory for each byte of a file: itself, the parsed model, and the checker's.
_BYTES_FOR_EACH = 4


async def judge(place: Place, limits: Limits, data: bytes, sha256: str) -> ModelFile:
    """The row of a delivered file, once it is seen to be harmless; it is not run.

    Raises:
        BadRequest: the hash differs from the address's, the file is not valid ONNX, it keeps
            weights in other files, or it has operators of unknown origin.
    """
    if (await asyncio.to_thread(hashlib.sha256, data)).hexdigest() != sha256:
        raise BadRequest(
            "The body's SHA-256 is not the one in the address.",
            "Send the file unchanged to /v1/models/SHA256.",
        )
    try:
        found = await place.judge(f"{INSPECTION}:inspect", data, _scaled(limits, len(data)))
    except Refused as refused:
        raise BadRequest(
            f"The model file is refused: {refused.message}.",
            refused.cure or "Upload a smaller or simpler model.",
            code="bad_model",
        ) from refused
    return ModelFile(sha256=sha256, size_bytes=len(data), opset=found["opset"], blob=data)


def _scaled(limits: Limits, size_bytes: int) -> Limits:
    """The limits for a file of this size: reading it takes memory and time in proportion."""
    factor = 1 + size_bytes / (64 << 20)
    return Limits(
        memory_bytes=limits.memory_bytes + _BYTES_FOR_EACH * size_bytes,
        cpu_seconds=limits.cpu_seconds * factor,
        wall_seconds=limits.wall_seconds * factor,
    )


def store_model(session: Session, row: ModelFile) -> bool:
    """Keep a delivered file until its verification ends; whether it is new. Sweeps forgotten ones.

    Clients that deliver the same file each have their own verification: the end of one's must not
    take it from another.
    """
    repository.delete_forgotten(session, FORGOTTEN_SECONDS)
    while not repository.upload_again(session, row.sha256):
        if insert_unless_known(session, row):
            return True
    return False


def get_model(session: Session, sha256: str, agent_id: str | None = None) -> ModelFile:
    """The delivered file.

    Args:
        agent_id: the agent that asks for it; None for a user.

    Raises:
        NotFound: it was never uploaded, or its verification has ended, or the agent does not work
            on it.
    """
    model = repository.model_file(session, sha256)
    if model is None or not jobs_repository.may_fetch(
        session, agent_id, Job.model_sha256 == sha256
    ):
        raise NotFound(
            f"There is no model file {sha256!r}; a file is removed when the verification that "
            "it is for has ended.",
            "Upload it with PUT /v1/models/SHA256.",
        )
    return model
