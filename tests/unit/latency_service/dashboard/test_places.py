from __future__ import annotations

import pytest

from latency_service.dashboard.places import ranges_text, runtime_text
from latency_service.devices.schemas import RuntimeConfig


@pytest.mark.parametrize(
    ("widths", "text"),
    [
        ([], ""),
        ([4], "4"),
        ([4, 8], "4, 8"),
        ([4, 5, 6, 7], "4–7"),
        ([4, 8, 12, 16], "4–16 by 4"),
        ([1, 2, 3, 8, 16, 24, 30], "1–3, 8–24 by 8, 30"),
    ],
)
def test_widths_in_short(widths: list[int], text: str) -> None:
    assert ranges_text(widths) == text


def test_runtime_in_words() -> None:
    assert runtime_text(RuntimeConfig()) == "CPU · 1 thread · batch 1 · fp32"
    assert runtime_text(RuntimeConfig(intra_threads=4)) == "CPU · 4 threads · batch 1 · fp32"
