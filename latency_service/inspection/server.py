"""The process that judging processes are forked from.

``python -m latency_service.inspection.server DESCRIPTOR MODULE...`` imports the modules once, then
forks for every connection that arrives over the socket DESCRIPTOR: a judgement starts in
milliseconds, knows nothing of the service but the upload, and whatever it does to its process ends
with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from latency_service.core.memory import is_out_of_memory
from latency_service.core.text import plain
from latency_service.inspection.wire import (
    Limits,
    Refused,
    Task,
    encode_refusal,
    encode_result,
)

#: Judging must not take the processor from the service.
NICENESS = 5
_LINE_BYTES = 4096
#: Longest reason that is told.
_REASON_CHARACTERS = 1000
#: Exit code of the dynamic loader, which has no memory for a function that is called first.
_LOADER_FAILED = 127
_MEMORY = "judging it needs more than {} MB of memory"


def main(descriptor: int, modules: Sequence[str]) -> None:
    """Serve until the service has closed its end."""
    os.setsid()
    os.nice(NICENESS)
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    _close_output()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the attendants
    with socket.socket(fileno=descriptor) as control:
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
            if not message:
                return
            _fork(partial(_attend, descriptors[0], control))
            os.close(descriptors[0])


def _fork(work: Callable[[], None]) -> int:
    """Do `work` in a process of its own; its id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def _attend(descriptor: int, control: socket.socket) -> None:
    """Let a further process judge, and answer for it when it is killed."""
    control.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=descriptor) as connection:
        task = Task.decode(_read_line(connection))
        judge = _fork(partial(_judge, connection, task))
        _, status = os.waitpid(judge, 0)
        if status:
            with contextlib.suppress(OSError):  # nobody may listen any more
                connection.sendall(encode_refusal(_ending(status, task.limits)))


def _judge(connection: socket.socket, task: Task) -> None:
    _limit(task.limits)
    try:
        answer = encode_result(_call(task.function, _read_all(connection)))
    except Refused as refused:
        answer = encode_refusal(
            Refused(
                plain(refused.message, _REASON_CHARACTERS), plain(refused.cure, _REASON_CHARACTERS)
            )
        )
    except Exception as error:  # noqa: BLE001 - whatever a stranger's file does is a refusal
        reason = plain(f"{type(error).__name__}: {error}", _REASON_CHARACTERS)
        if is_out_of_memory(error):
            reason = _MEMORY.format(task.limits.memory_bytes >> 20)
        answer = encode_refusal(Refused(reason))
    _stop_timers()
    connection.sendall(answer)


def _call(function: str, upload: bytes) -> Any:
    module, name = function.split(":")
    return getattr(importlib.import_module(module), name)(upload)


def _read_line(connection: socket.socket) -> bytes:
    """The task. It is read byte by byte: what follows it is for the judge."""
    line = bytearray()
    while not line.endswith(b"\n"):
        piece = connection.recv(1)
        if not piece or len(line) > _LINE_BYTES:
            raise EOFError
        line += piece
    return bytes(line)


def _read_all(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        return stream.read()


def _limit(limits: Limits) -> None:
    """Limit this process. The timers' signals end it even inside a library."""
    seconds = math.ceil(limits.cpu_seconds) + 1
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_DATA, _data_bytes() + limits.memory_bytes),
    ):
        _, hard = resource.getrlimit(kind)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (most, most))
    signal.setitimer(signal.ITIMER_PROF, limits.cpu_seconds)
    signal.setitimer(signal.ITIMER_REAL, limits.wall_seconds)


def _stop_timers() -> None:
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _data_bytes(path: Path = Path("/proc/self/status")) -> int:
    """Private memory that this process has already; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) << 10
    return 0


def _ending(status: int, limits: Limits) -> Refused:
    """The refusal that a judging process's death stands for."""
    number = os.waitstatus_to_exitcode(status)
    if number in (-signal.SIGPROF, -signal.SIGXCPU):
        return Refused(f"judging it takes more than {limits.cpu_seconds:g} s of processor time")
    if number == -signal.SIGALRM:
        return Refused(f"judging it takes more than {limits.wall_seconds:g} s")
    if number in (-signal.SIGKILL, -signal.SIGABRT, _LOADER_FAILED):
        return Refused(_MEMORY.format(limits.memory_bytes >> 20))
    return Refused(f"judging it ended with status {number}")


def _close_output() -> None:
    """Libraries print what strangers' files hold: nobody is to read it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
