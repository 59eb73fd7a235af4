"""Delivered model files: checked without being run, stored once, removed when measured."""

from __future__ import annotations

import hashlib

import onnx
from onnx import ModelProto, TensorProto
from sqlalchemy.orm import Session

from latency_service.core.errors import BadRequest, NotFound
from latency_service.db.base import insert_unless_known
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs.models import Job
from latency_service.model_files import repository
from latency_service.model_files.models import ModelFile

#: Age at which the next upload removes a file whose verification nobody asked for.
FORGOTTEN_SECONDS = 24 * 3600.0
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})


def check_model(data: bytes, sha256: str) -> ModelFile:
    """The row of a delivered file, once it is seen to be harmless; it is not run.

    Raises:
        BadRequest: the hash differs from the address's, the file is not valid ONNX, it keeps
            weights in other files, or it has operators of unknown origin.
    """
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BadRequest(
            "The body's SHA-256 is not the one in the address.",
            "Send the file unchanged to /v1/models/SHA256.",
        )
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:
        raise BadRequest(
            f"The file is no valid ONNX model: {error}", "Export it again, then upload it."
        ) from error
    if _has_external_data(model):
        raise BadRequest(
            "The model keeps weights in other files.",
            "Save it as one file: onnx.save(model, path) without external data.",
        )
    opset = _standard_opset(model)
    return ModelFile(sha256=sha256, size_bytes=len(data), opset=opset, blob=data)


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


def _has_external_data(model: ModelProto) -> bool:
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        tensors = list(graph.initializer)
        tensors += [entry.values for entry in graph.sparse_initializer]
        for node in graph.node:
            for attribute in node.attribute:
                tensors += [attribute.t, *attribute.tensors]
                graphs += [attribute.g] if attribute.HasField("g") else []
                graphs += attribute.graphs
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors):
            return True
    return False


def _standard_opset(model: ModelProto) -> int:
    """The model's opset; its operators must be ONNX's own or functions that it brings along."""
    own = {function.domain for function in model.functions}
    foreign = {entry.domain for entry in model.opset_import} - STANDARD_DOMAINS - own
    if foreign:
        raise BadRequest(
            f"The model uses operators of {', '.join(sorted(foreign))}, which are not ONNX's own.",
            "Export it with standard operators.",
        )
    return max(
        (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        default=0,
    )
