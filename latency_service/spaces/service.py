"""Search spaces and delivered model files: checked without being run, stored once by their hash."""

from __future__ import annotations

import hashlib

import onnx
from onnx import ModelProto, TensorProto
from sqlalchemy.orm import Session

from latency_service.core.errors import BadRequest, NotFound
from latency_service.spaces import repository
from latency_service.spaces.layers import total_macs, total_parameters
from latency_service.spaces.models import ModelFile, Space
from latency_service.spaces.schemas import SpaceView, WidthGroup
from latency_service.spaces.slicing import SearchSpace

#: Uploaded models that no verification ever asked for are removed after this time, by the next
#: upload.
FORGOTTEN_SECONDS = 24 * 3600.0
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})


def describe(space: SearchSpace, *, is_probe: bool = False) -> Space:
    """The row of a space: reads the whole graph, so call it outside a writing transaction.

    Raises:
        SpaceError: shapes cannot be inferred.
    """
    return Space(
        id=space.id,
        name=space.manifest.name,
        groups=[group.model_dump() for group in space.groups],
        opset=space.opset,
        inputs=_inputs(space.model),
        size_bytes=len(space.data),
        parameters=total_parameters(space, space.full_widths),
        macs=round(float(total_macs(space, space.full_widths))),
        is_probe=is_probe,
        blob=space.data,
    )


def store(session: Session, row: Space) -> tuple[Space, bool]:
    """Keep a space; (the stored row, whether it is new)."""
    known = repository.space(session, row.id)
    if known is None:
        if repository.add(session, row):
            return row, True
        known = repository.space(session, row.id)
        assert known is not None, "spaces are never deleted"
    if known.is_probe and not row.is_probe:
        known.is_probe = False
    return known, False


def get_space(session: Session, id_or_prefix: str) -> Space:
    """The space with that id, or the only one whose id begins so.

    Raises:
        NotFound: there is none.
        BadRequest: several begin so.
    """
    found = repository.spaces_like(session, id_or_prefix.lower())
    if not found:
        raise NotFound(
            f"There is no search space {id_or_prefix!r}.",
            "List them with: latency-service spaces list. Upload one with: latency-service "
            "spaces upload FILE",
        )
    if len(found) > 1:
        raise BadRequest(
            f"Several search spaces begin with {id_or_prefix!r}.", "Give more digits of the id."
        )
    return found[0]


def load(session: Session, space_id: str) -> SearchSpace:
    """The stored space, parsed."""
    blob = repository.space_blob(session, space_id)
    assert blob is not None, "spaces are never deleted"
    return SearchSpace.from_bytes(blob)


def show(space: Space) -> SpaceView:
    return SpaceView(
        id=space.id,
        name=space.name,
        groups=[WidthGroup.model_validate(group) for group in space.groups],
        opset=space.opset,
        inputs=space.inputs,
        bytes=space.size_bytes,
        parameters=space.parameters,
        macs=space.macs,
        created_at=space.created_at,
    )


def check_model(data: bytes, sha256: str) -> ModelFile:
    """The row of a delivered file, once it is seen to be harmless; it is not run.

    Raises:
        BadRequest: another hash than told, no valid ONNX, weights kept elsewhere, or operators of
            unknown origin.
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
    repository.delete_forgotten_models(session, FORGOTTEN_SECONDS)
    while not repository.upload_again(session, row.sha256):
        if repository.add(session, row):
            return True
    return False


def get_model(session: Session, sha256: str) -> ModelFile:
    """The delivered file.

    Raises:
        NotFound: it was never uploaded, or its verification has ended.
    """
    model = repository.model(session, sha256)
    if model is None:
        raise NotFound(
            f"There is no model file {sha256!r}; a file is removed when the verification that "
            "it is for has ended.",
            "Upload it with PUT /v1/models/SHA256.",
        )
    return model


def _inputs(model: ModelProto) -> dict[str, list[int | str]]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        entry.name: [dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim]
        for entry in model.graph.input
        if entry.name not in weights
    }


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
