"""The folder of a job's results: made before the data are read, and held by one job at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from latency_service.core.locks import try_lock
from pruning_client.errors import UsageError

_LOCK = ".lock"
_CURE = "Give another folder (`out_dir`, `--out`)."


@contextlib.contextmanager
def held(out: Path) -> Iterator[Path]:
    """The folder, made if it is not there, while no other job may work in it.

    Raises:
        UsageError: It cannot be written, or another job works in it.
    """
    with contextlib.ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            is_held = stack.enter_context(try_lock(out / _LOCK))
        except OSError as error:
            raise UsageError(
                f"{out} cannot be written: {error.strerror or error}.", _CURE
            ) from error
        if not is_held:
            raise UsageError(
                f"Another job works in {out}: the two would mix their checkpoints and results.",
                f"Wait until it has ended. {_CURE}",
            )
        yield out
