from __future__ import annotations

from pruning_client.pipeline.artifacts import versions


def test_versions_name_what_decides_the_result() -> None:
    assert {"torch", "onnx", "onnxruntime", "python"} <= versions().keys()
