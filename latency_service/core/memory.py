"""Telling that a process has no memory left from a file that is not valid."""

from __future__ import annotations

#: How protobuf tells it, in errors about the file.
_PROTOBUF = "google.protobuf"
_SIGNS = ("Arena alloc failed", "Failed to serialize proto")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that there is no memory left, whatever its type says."""
    if isinstance(error, MemoryError):
        return True
    is_protobuf = type(error).__module__.startswith(_PROTOBUF)
    return is_protobuf and any(sign in str(error) for sign in _SIGNS)


def check_memory(error: Exception) -> None:
    """Return if an error of a library is about what it was given.

    Raises:
        MemoryError: it means that there is no memory left.
    """
    if is_out_of_memory(error):
        raise MemoryError(str(error)) from error
