"""Judges uploads in processes with limits: the service's side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from latency_service.core.errors import Overloaded
from latency_service.inspection.wire import Limits, Refused, Task, decode_answer

#: Judging processes at a time, and uploads that may be read or wait for one: each holds its file in
#: memory.
AT_A_TIME = 2
WAITING = 16
#: Places of one token: one that sends slowly leaves some for the others.
FOR_EACH = 9
#: What the answer may take beyond the judging process's own limit.
_MARGIN_SECONDS = 5.0
_MAX_ANSWER_BYTES = 16 << 20
_PIECE_BYTES = 1 << 16


class Inspector:
    """Judges uploads by functions of `modules`. Thread-safe; nothing runs before `start` or the
    first upload.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._server = _Server(modules)
        self._threads = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="judge")
        self._taken: Counter[str] = Counter()

    def start(self) -> None:
        """Start the process that the others are forked from, so that the first upload is as fast as
        the next.
        """
        self._server.start()

    def close(self) -> None:
        """End the processes. A later upload starts them anew."""
        self._server.close()

    @contextlib.contextmanager
    def place(self, token_id: str) -> Iterator[Place]:
        """A place for one upload, taken before it is read, since it is held in memory until it is
        judged. For one event loop.

        Raises:
            Overloaded: all are taken, or all that are left are for other tokens.
        """
        if self._taken.total() >= AT_A_TIME + WAITING:
            raise _overloaded(f"{self._taken.total()} uploads")
        if self._taken[token_id] >= FOR_EACH:
            raise _overloaded(f"{FOR_EACH} uploads of this token")
        self._taken[token_id] += 1
        try:
            yield Place(self._threads, self._judge)
        finally:
            self._taken[token_id] -= 1
            self._taken += Counter()  # drops the zeros

    def _judge(self, task: Task, upload: bytes) -> Any:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._server.fork(theirs)
            ours.settimeout(task.limits.wall_seconds + _MARGIN_SECONDS)
            return decode_answer(_exchanged(ours, task, upload))


def _overloaded(what: str) -> Overloaded:
    return Overloaded(f"{what} are read or judged already.", "Try again in a few seconds.")


class Place:
    """Where one upload is judged; see `Inspector.place`."""

    def __init__(
        self, threads: ThreadPoolExecutor, judge_here: Callable[[Task, bytes], Any]
    ) -> None:
        self._threads = threads
        self._judge_here = judge_here

    async def judge(self, function: str, upload: bytes, limits: Limits) -> Any:
        """What `function` (``module:name``) makes of an upload, in a process of its own.

        Raises:
            Refused: the function refused it, or its process went over a limit or crashed.
        """
        task = Task(function=function, limits=limits)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._judge_here, task, upload)


class _Server:
    """The process that judging processes are forked from, started anew when it has died."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def start(self) -> None:
        with self._lock:
            self._started()

    def fork(self, connection: socket.socket) -> None:
        """Have a new process serve `connection`."""
        with self._lock:
            try:
                self._send(connection)
            except OSError:
                self._end()
                self._send(connection)

    def close(self) -> None:
        with self._lock:
            self._end()

    def _send(self, connection: socket.socket) -> None:
        socket.send_fds(self._started().control, [b"f"], [connection.fileno()])

    def _started(self) -> _Running:
        if self._running is not None and self._running.process.poll() is not None:
            self._end()
        if self._running is None:
            self._running = _Running(self._modules)
        return self._running

    def _end(self) -> None:
        if self._running is not None:
            self._running.end()
        self._running = None


class _Running:
    """One process, and the socket over which connections are sent to it; ended with this object at
    the latest.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self.control, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.server", str(number), *modules],
                stdin=subprocess.DEVNULL,
                env=_environment(),
                pass_fds=(number,),
            )
        self.end = weakref.finalize(self, _end, self.control, self.process)


def _end(control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    control.close()
    process.kill()
    process.wait()


def _exchanged(connection: socket.socket, task: Task, upload: bytes) -> bytes:
    """Send the task and the upload; the answer, empty when the process was gone."""
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(task.encode())
            connection.sendall(upload)
            connection.shutdown(socket.SHUT_WR)
        return _received(connection)
    except TimeoutError as error:
        raise Refused(f"judging it takes more than {task.limits.wall_seconds:g} s") from error


def _received(connection: socket.socket) -> bytes:
    answer = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(_PIECE_BYTES):
            answer += piece
            if len(answer) > _MAX_ANSWER_BYTES:
                raise Refused("what was found in it is too long to be told")
    return bytes(answer)


def _environment() -> Mapping[str, str]:
    """This process's environment without the service's settings and tokens."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith("LATENCY_SERVICE_")
    }
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
