"""Judgements that end in every way in which one can; each takes the upload."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

from latency_service.inspection.wire import Refused


def count(upload: bytes) -> dict[str, int]:
    return {"bytes": len(upload), "process": os.getpid()}


def refuse(upload: bytes) -> Any:
    raise Refused("it is not nice", "Be nicer.")


def fail(upload: bytes) -> Any:
    raise KeyError(upload.decode(errors="surrogateescape") + "\x00\x1b" + "x" * 10_000)


def spin(upload: bytes) -> Any:
    while True:
        pass


def sleep(upload: bytes) -> Any:
    time.sleep(600)


def grow(upload: bytes) -> Any:
    return [bytes(1 << 24) for _ in range(1 << 16)]


def grow_in_a_library(upload: bytes) -> Any:
    """Memory that Python does not hand out; the library ends the process when there is none."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while libc.malloc(ctypes.c_size_t(1 << 24)):
        pass
    libc.abort()


def crash(upload: bytes) -> Any:
    ctypes.string_at(0)


def leave(upload: bytes) -> Any:
    os._exit(0)


def write(upload: bytes) -> Any:
    with open(upload, "wb") as file:
        file.write(bytes(1 << 20))


def tell_too_much(upload: bytes) -> str:
    return "x" * (17 << 20)


def look_around(upload: bytes) -> list[str]:
    """Secrets in the environment."""
    return [name for name in os.environ if name.startswith("LATENCY_SERVICE")]
