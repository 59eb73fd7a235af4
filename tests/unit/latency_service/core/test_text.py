from __future__ import annotations

from collections.abc import Sequence

import pytest

from latency_service.core.text import in_runs, plain


@pytest.mark.parametrize(
    ("widths", "text"),
    [
        ([], ""),
        ([4], "4"),
        ([4, 8], "4, 8"),
        ([4, 5, 6, 7], "4–7"),
        ([4, 8, 12, 16], "4–16 by 4"),
        ([1, 2, 3, 8, 16, 24, 30], "1–3, 8–24 by 8, 30"),
        ([1, 2, 8, 9, 10, 11, 16, 20, 24], "1, 2, 8–11, 16–24 by 4"),
        (range(1, 161), "1–160"),
    ],
)
def test_widths_in_short(widths: Sequence[int], text: str) -> None:
    assert in_runs(widths) == text


def test_a_plain_text_can_be_stored() -> None:
    assert plain("a\x00b\x1bc\udcff\n\td", 100) == "a?b?c?\n\td"
    assert plain("abc", 2) == "ab"
