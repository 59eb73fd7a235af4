"""Search spaces, described without being run and stored once by their hash."""

from __future__ import annotations

from onnx import ModelProto
from sqlalchemy.orm import Session

from latency_service.core.errors import BadRequest, NotFound
from latency_service.db.base import insert_unless_known
from latency_service.spaces import repository
from latency_service.spaces.layers import total_macs, total_parameters
from latency_service.spaces.models import Space
from latency_service.spaces.schemas import SpaceView, WidthGroup
from latency_service.spaces.slicing import SearchSpace


def describe(space: SearchSpace, *, is_probe: bool = False) -> Space:
    """Row of a space. Reads the whole graph, so call it outside a write transaction.

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
    """Store a space; return the stored row and whether it is new."""
    known = repository.space(session, row.id)
    if known is None:
        if insert_unless_known(session, row):
            return row, True
        known = repository.space(session, row.id)
        assert known is not None, "spaces are never deleted"
    if known.is_probe and not row.is_probe:
        known.is_probe = False
    return known, False


def get_space(session: Session, id_or_prefix: str) -> Space:
    """Space with this id, or the only one whose id begins with it.

    Raises:
        NotFound: no id begins with it.
        BadRequest: several ids begin with it.
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


def _inputs(model: ModelProto) -> dict[str, list[int | str]]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        entry.name: [dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim]
        for entry in model.graph.input
        if entry.name not in weights
    }
