"""ONNX files of this machine's user, made whole for the measuring process.

Weights that lie in other files are read in, dynamic sizes are fixed. Never for uploads, which must
be whole as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import (  # type: ignore[import-untyped]
    DecodeError,
    EncodeError,
)
from onnx import ModelProto, ValueInfoProto
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from latency_service.agent.measuring.ipc import MeasuringFailed

#: Sizes of inputs by their names.
Shapes = Mapping[str, Sequence[int]]


def read_whole(path: Path, shapes: Shapes, *, skip_others: bool = False) -> bytes:
    """The file's model in one piece, with the inputs in `shapes` fixed to these sizes; the bytes as
    they are where there is nothing to do, also when they are no model.

    Args:
        skip_others: leave out shapes of inputs that the model does not have.

    Raises:
        OSError: the file cannot be read.
        MeasuringFailed: its weights cannot be read, a shape does not fit, or it is larger than
            2 GB.
    """
    data = path.read_bytes()
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        return data  # the measuring process says what is wrong with it
    is_split = any(uses_external_data(tensor) for tensor in model.graph.initializer)
    if not shapes and not is_split:
        return data
    if is_split:
        _read_weights(model, path)
    names = {entry.name for entry in model.graph.input}
    fix_shapes(model, {k: v for k, v in shapes.items() if k in names or not skip_others})
    try:
        return bytes(model.SerializeToString())
    except (EncodeError, ValueError) as error:
        raise MeasuringFailed(
            "model_invalid",
            f"{path} with its weights is larger than the 2 GB that can be measured.",
        ) from error


def fix_shapes(model: ModelProto, shapes: Shapes) -> None:
    """Fix the sizes of the inputs named in `shapes`, in place.

    Raises:
        MeasuringFailed: there is no such input, or its sizes do not fit; the message names them.
    """
    constant = {tensor.name for tensor in model.graph.initializer}
    inputs = {entry.name: entry for entry in model.graph.input if entry.name not in constant}
    for name, shape in shapes.items():
        entry = inputs.get(name)
        if entry is None:
            raise MeasuringFailed(
                "model_invalid",
                f"there is no input {name!r}; the inputs are "
                f"{', '.join(f'{key} {_shown(each)}' for key, each in inputs.items())}.",
            )
        dims = entry.type.tensor_type.shape.dim
        fits = len(dims) == len(shape) and all(
            not dim.HasField("dim_value") or dim.dim_value == size
            for dim, size in zip(dims, shape, strict=True)
        )
        if not fits:
            raise MeasuringFailed(
                "model_invalid",
                f"{'x'.join(map(str, shape))} does not fit input {name!r} of shape "
                f"{_shown(entry)}.",
            )
        for dim, size in zip(dims, shape, strict=True):
            dim.dim_value = size


def _read_weights(model: ModelProto, path: Path) -> None:
    try:
        load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise MeasuringFailed(
            "model_invalid",
            f"weights of {path} lie in another file, which cannot be read: {error}. Put it where "
            "it was when the model was saved, relative to the model.",
        ) from error


def _shown(entry: ValueInfoProto) -> str:
    dims = entry.type.tensor_type.shape.dim
    sizes = (str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in dims)
    return f"[{', '.join(sizes)}]"
