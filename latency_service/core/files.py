"""Files that appear whole or not at all, even if the writer is killed."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Errors of `os.link` on a file system without hard links, such as FAT and some network shares.
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
#: Longest wait for other first writers, each of whom holds the lock for one rename.
_LOCK_SECONDS = 10.0


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

    The draft is linked to its name, which fails where the name is taken. A file system without
    hard links gets a rename under a lock instead; the empty lock file may stay beside the file.

    Raises:
        OSError: the file cannot be written; the draft is removed.
    """
    with _draft(path, data, mode) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            return _rename_to_free_name(draft, path)
        return True


def remove_drafts(folder: Path) -> None:
    """Remove what writers of files in the folder left behind that were killed; nobody else may
    write there meanwhile.
    """
    for draft in folder.glob(".*.draft"):
        draft.unlink(missing_ok=True)


def _rename_to_free_name(draft: Path, path: Path) -> bool:
    """Rename the draft unless the name is taken; whether it was renamed."""
    from filelock import FileLock

    # released by the kernel when its holder dies, so that no first writer can block the next
    with FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_SECONDS, mode=0o600):
        if os.path.lexists(path):
            return False
        os.replace(draft, path)
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
