"""The page about FLOPs: its numbers are those of the committed result."""

from __future__ import annotations

import json

from tests.support.code_blocks import ROOT

PAGE = (ROOT / "docs" / "explanation" / "flops.md").read_text()
RESULT = json.loads((ROOT / "benchmarks" / "results" / "lattice.json").read_text())


def latencies(kind: str) -> dict[int, float]:
    sweep = RESULT["data"]["kinds"][kind]["sweep"]
    return {point["width"]: point["latency_ms"] for point in sweep}


def test_one_filter_less_is_slower() -> None:
    measured = latencies("conv3x3")
    assert f"takes {measured[119] / measured[120]:.2f} times as long with 119 filters" in PAGE
    assert f"can be {100 * (measured[119] / measured[120] - 1):.0f} % slower" in PAGE


def test_half_of_the_work_takes_longer() -> None:
    measured = latencies("depthwise")
    assert f"65 filters, {100 * 65 / 144:.0f} % of the MACs of" in PAGE
    assert f"takes {measured[65] / measured[144]:.2f} times as long as that with 144" in PAGE


def test_the_page_names_machine_and_version() -> None:
    assert RESULT["machine"]["processor"] in PAGE
    assert f"ONNX Runtime {RESULT['versions']['onnxruntime']}" in PAGE
