"""Mutations of a valid file: of its bytes, and of its fields."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from onnx import ModelProto

from latency_service.core.graphs import walk

INTEGERS = (0, 1, -1, 2, 7, 63, 127, 2**16, 2**31 - 1, -(2**31), 2**32, 2**62, 2**63 - 1, -(2**63))
TEXTS = ("", "x", "a", "y0", "out", "Conv", "Reshape", "x" * 5000, "\x00", "\u202e", "../../etc")


def mutated(valid: bytes, seed: int) -> bytes:
    """A file that differs from a valid one, always the same for a seed."""
    chance = random.Random(seed)
    if chance.random() < 0.35:
        return chance.choice(BYTES)(valid, chance)
    model = ModelProto.FromString(valid)
    for _ in range(chance.choice((1, 1, 2, 5))):
        _change_field(model, chance)
    return bytes(model.SerializeToString())


def flip_bytes(valid: bytes, chance: random.Random) -> bytes:
    changed = bytearray(valid)
    for _ in range(chance.choice((1, 2, 8, 64))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def truncate(valid: bytes, chance: random.Random) -> bytes:
    return valid[: chance.randrange(len(valid))]


def cut_out(valid: bytes, chance: random.Random) -> bytes:
    begin, end = sorted(chance.randrange(len(valid)) for _ in range(2))
    return valid[:begin] + valid[end:]


def repeat_part(valid: bytes, chance: random.Random) -> bytes:
    begin, end = sorted(chance.randrange(len(valid)) for _ in range(2))
    return valid[:end] + valid[begin:end] * chance.randrange(1, 50) + valid[end:]


def insert_noise(valid: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(valid))
    return valid[:place] + chance.randbytes(chance.choice((1, 16, 4096))) + valid[place:]


def double(valid: bytes, chance: random.Random) -> bytes:
    return valid * chance.choice((2, 3))


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_bytes,
    flip_bytes,
    truncate,
    cut_out,
    repeat_part,
    insert_noise,
    double,
)


def _change_field(model: ModelProto, chance: random.Random) -> None:
    """Change one field of one message, wherever in the model."""
    message = chance.choice([each for each in walk(model) if each.ListFields()])
    field, value = chance.choice(message.ListFields())
    if chance.random() < 0.1:
        message.ClearField(field.name)
    elif isinstance(value, Message):
        _swap(value, model, chance)
    elif isinstance(value, (bool, int, float, str, bytes)):
        _set(message, field.name, _another(value, chance))
    else:
        _change_list(value, chance)


def _swap(value: Message, model: ModelProto, chance: random.Random) -> None:
    """Put another message of the same type in the place of this one."""
    others = [each for each in walk(model) if type(each) is type(value)]
    copy = type(value).FromString(chance.choice(others).SerializeToString())
    value.CopyFrom(copy)


def _set(message: Message, name: str, value: Any) -> None:
    try:
        setattr(message, name, value)
    except (ValueError, TypeError):  # out of the range of the field
        message.ClearField(name)


def _another(value: Any, chance: random.Random) -> Any:
    if isinstance(value, int):
        return chance.choice((*INTEGERS, value + 1, value - 1))
    if isinstance(value, float):
        return chance.choice((0.0, -1.0, 1e38, float("inf"), float("nan")))
    if isinstance(value, str):
        return chance.choice((*TEXTS, value[: len(value) // 2], value * 2))
    return chance.choice((b"", value * 2, value[: len(value) // 2], chance.randbytes(len(value))))


def _change_list(values: Any, chance: random.Random) -> None:
    """Drop, repeat or change an entry."""
    index = chance.randrange(len(values))
    kind = chance.random()
    if kind < 0.3:
        del values[index]
    elif kind < 0.6:
        values.extend([values[index]] * chance.choice((1, 1, 3, 200)))
    elif not isinstance(values[index], Message):
        try:
            values[index] = _another(values[index], chance)
        except (ValueError, TypeError):
            del values[index]
