"""Half of a small network's export is torch reading its own table of operators anew: tests read it once."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from torch.onnx._internal.exporter import _registration


@pytest.fixture(autouse=True, scope="session")
def operators_read_once() -> Iterator[None]:
    registry = _registration.ONNXRegistry
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib)))
        yield
