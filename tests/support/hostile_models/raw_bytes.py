"""Files that are no protobuf, or a monstrous one."""

from __future__ import annotations

from onnx import ModelProto

from tests.support.hostile_models.spoiling import spoilt, valid_space

MEGABYTES = 8


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)


def million_empty_nodes() -> bytes:
    """Two bytes each, a hundred once they are parsed."""
    return field(7, b"\x0a\x00" * (MEGABYTES << 19))


def million_empty_names() -> bytes:
    """One node with millions of inputs without a name."""
    return field(7, field(1, b"\x0a\x00" * (MEGABYTES << 19)))


def million_dims() -> bytes:
    return field(7, field(5, field(1, b"\x01" * (MEGABYTES << 20))))


def nested(depth: int) -> bytes:
    """Graphs in attributes of nodes, one in another."""
    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return field(7, graph)


def million_opsets() -> bytes:
    return b"\x42\x00" * (MEGABYTES << 19)


def unknown_fields(model: ModelProto) -> None:
    model.MergeFromString(b"\xfa\x7f\x03abc" * 1000 + field(7, field(1, b"")))


def long_varint() -> bytes:
    return b"\x08" + b"\xff" * 64


def length_beyond_the_end() -> bytes:
    return b"\x3a" + varint(2**31 - 1) + b"\x0a"


KINDS = {
    "empty": lambda: b"",
    "noise": lambda: bytes(range(256)) * 64,
    "zeros": lambda: bytes(1 << 16),
    "truncated": lambda: valid_space()[: len(valid_space()) // 2],
    "doubled": lambda: valid_space() * 2,
    "million empty nodes": million_empty_nodes,
    "million empty names": million_empty_names,
    "million dims": million_dims,
    "million opsets": million_opsets,
    "graphs nested 30 deep": lambda: nested(30),
    "graphs nested 2,000 deep": lambda: nested(2000),
    "unknown fields and an empty node": spoilt(unknown_fields),
    "long varint": long_varint,
    "length beyond the end": length_beyond_the_end,
    "no graph": lambda: varint(1 << 3) + varint(8),
}
