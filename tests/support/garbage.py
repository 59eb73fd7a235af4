"""Garbage collection that does not count in the CPU time of a test."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def objects_so_far_apart() -> Iterator[None]:
    """No collection walks through what thousands of tests before have left in memory: that takes a
    second by itself.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
