"""The folder of results: written to before data are read, and held by one job at a time.

A job on another machine is not seen.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from latency_service.core.locks import try_lock
from pruning_client.errors import UsageError

_CURE = "Give another folder (`out_dir`, `--out`)."


@contextlib.contextmanager
def held(out: Path) -> Iterator[Path]:
    """The folder, made if it is not there, while no other job of this machine may work in it.

    Raises:
        UsageError: It cannot be written, or another job works in it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}.", _CURE) from error
    with try_lock(_lock_of(out)) as is_held:
        if not is_held:
            raise UsageError(
                f"Another job works in {out}: the two would mix their checkpoints and results.",
                f"Wait until it has ended. {_CURE}",
            )
        yield out


def _lock_of(out: Path) -> Path:
    """A file elsewhere, so that the folder holds results only."""
    place = hashlib.sha256(os.fsencode(out.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"pruning-client-{getpass.getuser()}-{place}.lock"
