"""Judges an uploaded search space; runs in a process with limits, see `inspection`."""

from __future__ import annotations

from typing import Any

from onnx import ModelProto

from latency_service.inspection.wire import Refused
from latency_service.spaces.errors import SpaceError
from latency_service.spaces.layers import total_macs, total_parameters
from latency_service.spaces.sizes import MAX_MACS, check_total, measure
from latency_service.spaces.slicing import SearchSpace, materialise


def inspect(upload: bytes) -> dict[str, Any]:
    """What the service stores about a space, once it is seen to be sound.

    Raises:
        Refused: it is not a search space, or goes over a limit; the message says why.
    """
    try:
        space = SearchSpace.from_bytes(upload)
        measure(space.model)
        _check_narrowest(space)
        return describe(space)
    except SpaceError as error:
        raise Refused(str(error)) from error


def describe(space: SearchSpace) -> dict[str, Any]:
    """Columns of a space's row, but for its file.

    Raises:
        SpaceError: shapes cannot be inferred, or the layers do more work than a network can.
    """
    macs = float(total_macs(space, space.full_widths))
    check_total("multiply-accumulates for one image", int(macs), MAX_MACS)
    return {
        "name": space.manifest.name,
        "groups": [group.model_dump() for group in space.groups],
        "opset": space.opset,
        "inputs": _inputs(space.model),
        "size_bytes": len(space.data),
        "parameters": total_parameters(space, space.full_widths),
        "macs": round(macs),
    }


def _check_narrowest(space: SearchSpace) -> None:
    """Make the narrowest architecture: what an agent would stumble over shows here."""
    try:
        measure(materialise(space, [group.minimum for group in space.groups]))
    except SpaceError as error:
        raise SpaceError(f"its narrowest architecture: {error}") from error


def _inputs(model: ModelProto) -> dict[str, list[int | str]]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        entry.name: [dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim]
        for entry in model.graph.input
        if entry.name not in weights
    }
