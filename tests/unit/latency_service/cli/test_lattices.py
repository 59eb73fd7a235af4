"""Widths of a lattice in words that fit a table."""

from __future__ import annotations

import pytest

from latency_service.cli.lattices import in_runs


@pytest.mark.parametrize(
    ("widths", "words"),
    [
        ([], ""),
        ([8], "8"),
        ([8, 12], "8, 12"),
        ([8, 12, 16], "8-16 by 4"),
        ([1, 2, 8, 9, 10, 11, 16, 20, 24], "1, 2, 8-11, 16-24 by 4"),
        (range(1, 161), "1-160"),
    ],
)
def test_equal_steps_are_drawn_together(widths: list[int], words: str) -> None:
    assert in_runs(widths) == words
