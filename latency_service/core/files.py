"""Files that appear whole or not at all, whatever stops the writer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file, or leave what was there: a draft beside it is synced, then renamed.

    Args:
        mode: permissions of the new file.

    Raises:
        OSError: the file cannot be written; the draft is removed.
    """
    with _draft(path, data, mode) as draft:
        os.replace(draft, path)


def create_whole(path: Path, data: bytes, *, mode: int = 0o600) -> bool:
    """Write a file that does not exist yet; False where another writer was first.

    Raises:
        OSError: the file cannot be written; the draft is removed.
    """
    with _draft(path, data, mode) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        return True


@contextmanager
def _draft(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """A synced file with these bytes in the folder of `path`; it is gone afterwards."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".draft", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(mode)
        yield draft
    finally:
        draft.unlink(missing_ok=True)
