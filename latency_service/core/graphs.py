"""ONNX files of strangers: parsed, counted and searched before anything else reads them.

Nothing here runs a network, infers a shape or opens a file. Used by the service, by agents and by
whoever reads a search space.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import ModelProto, NodeProto, TensorProto

from latency_service.core.memory import check_memory

#: Parts of a file (messages and texts) at most. A ResNet-152 has some thousands; a file of 16 MB
#: can hold eight million, which fill a gigabyte when it is parsed.
MAX_PARTS = 150_000
#: Numbers in one attribute, nodes of a graph, names of one node and the like.
MAX_NUMBERS = 1 << 16
#: Characters of a text, such as a name, and of a value of the metadata, such as a manifest.
MAX_CHARACTERS = 1 << 14
MAX_METADATA_CHARACTERS = 2_000_000
#: Domains of ONNX's own operators.
STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
#: Fields of a tensor whose length is that of the tensor.
_VALUES = frozenset({"float_data", "int32_data", "int64_data", "double_data", "uint64_data"})


class GraphError(ValueError):
    """The file is not an ONNX graph that is safe to read; the message says why."""


def parse(data: bytes) -> ModelProto:
    """The model in `data`, its parts counted.

    Raises:
        GraphError: it is no model, or goes over a limit.
        MemoryError: this process has too little memory for it.
    """
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        check_memory(error)
        raise GraphError(f"not an ONNX file: {error}") from error
    _count(model)
    if not model.HasField("graph"):
        raise GraphError("not an ONNX file: it holds no graph")
    return model


def opset_of(model: ModelProto) -> int:
    """Version of ONNX's operators that a model is written for.

    Raises:
        GraphError: it names none, several, or one that does not exist here.
    """
    versions = {entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")}
    if len(versions) != 1:
        raise GraphError(f"it names {len(versions)} versions of ONNX's operators instead of one")
    (version,) = versions
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= version <= newest:
        raise GraphError(f"it is written for opset {version}, from 1 to {newest} are known here")
    return int(version)


def check_whole(model: ModelProto) -> None:
    """Refuse what makes a reader open other files.

    Raises:
        GraphError: a tensor, however deep in the graph, lies in another file.
    """
    for message in walk(model):
        if isinstance(message, TensorProto) and is_external(message):
            raise GraphError(
                f"the weight {message.name[:100]!r} lies in another file. Save the model as one "
                "file"
            )


def check_operators(model: ModelProto) -> None:
    """Refuse operators that are not ONNX's own.

    Raises:
        GraphError: functions, graphs for training, or operators of other domains.
    """
    if model.functions:
        raise GraphError(
            f"it defines {len(model.functions)} functions of its own, such as "
            f"{model.functions[0].name[:100]!r}: inline them with "
            "onnx.inliner.inline_local_functions"
        )
    if model.training_info:
        raise GraphError("it holds graphs for training")
    for message in walk(model):
        if isinstance(message, NodeProto) and message.domain not in STANDARD_DOMAINS:
            raise GraphError(
                f"it uses the operator {message.op_type[:100]} of {message.domain[:100]!r}, which "
                "is not ONNX's own"
            )


def is_external(tensor: TensorProto) -> bool:
    """Whether a tensor points at values outside of it."""
    return tensor.data_location == TensorProto.EXTERNAL or bool(tensor.external_data)


def walk(message: Message) -> Iterator[Message]:
    """`message` and every message in it."""
    waiting = [message]
    while waiting:
        one = waiting.pop()
        yield one
        for field, value in one.ListFields():
            if field.message_type is not None:
                waiting.extend([value] if isinstance(value, Message) else value)


def _count(model: ModelProto) -> None:
    parts = 0
    for message in walk(model):
        parts += 1 + _texts(message)
        if parts > MAX_PARTS:
            raise GraphError(f"the file has more than {MAX_PARTS} parts")


def _texts(message: Message) -> int:
    """Number of texts in the lists of one message, each of which is measured."""
    count = 0
    longest = MAX_CHARACTERS
    if isinstance(message, onnx.StringStringEntryProto):
        longest = MAX_METADATA_CHARACTERS
    for field, value in message.ListFields():
        if isinstance(value, str):
            _check_length(field.name, len(value), longest, "characters")
        elif isinstance(value, (int, float, bytes, Message)):
            continue
        elif field.name not in _VALUES:
            _check_length(field.name, len(value), MAX_NUMBERS, "entries")
            if field.message_type is None and value and isinstance(value[0], (str, bytes)):
                count += len(value)
                _check_length(field.name, max(map(len, value)), longest, "characters")
    return count


def _check_length(field: str, length: int, limit: int, unit: str) -> None:
    if length > limit:
        raise GraphError(f"a field {field!r} has {length} {unit}, {limit} are permitted")
