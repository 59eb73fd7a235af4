"""How many connections a process can have, whatever its limits on open files are."""

from __future__ import annotations

import sys

import pytest

from latency_service.web.connections import RESERVED_DESCRIPTORS, allow_connections

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")
NONE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "allowed"),
    [
        (1024, 4096, 4096, 4096 - RESERVED_DESCRIPTORS),
        (1024, 1 << 20, 1 << 20, 10_000),
        (4096, 4096, None, 4096 - RESERVED_DESCRIPTORS),
        (64, 64, None, 1),
        (1024, NONE, 10_000 + RESERVED_DESCRIPTORS, 10_000),
        (1 << 20, NONE, None, 10_000),
        (NONE, NONE, None, 10_000),
    ],
)
def test_as_many_connections_as_files_allow(
    soft: int, hard: int, raised: int | None, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    assert allow_connections(10_000) == allowed
    assert set_to == ([] if raised is None else [(raised, hard)])
