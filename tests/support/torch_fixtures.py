"""Fixtures that make torch fast in small tests."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from torch.onnx._internal.exporter import _registration


@pytest.fixture(autouse=True, scope="session")
def operators_read_once() -> Iterator[None]:
    """Half of a small network's export is torch reading its own table of operators anew: tests read
    it once.
    """
    registry = _registration.ONNXRegistry
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib))
        )
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and waiting threads cost a shared machine a lot."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
