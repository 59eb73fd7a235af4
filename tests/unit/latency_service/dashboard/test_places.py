from __future__ import annotations

from latency_service.dashboard.places import runtime_text
from latency_service.devices.schemas import RuntimeConfig


def test_runtime_in_words() -> None:
    assert runtime_text(RuntimeConfig()) == "CPU · 1 thread · batch 1 · fp32"
    assert runtime_text(RuntimeConfig(intra_threads=4)) == "CPU · 4 threads · batch 1 · fp32"
