"""`latency-service doctor` and `measure`: this machine as a measuring instrument, without a
service.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from latency_service.spaces.slicing import materialise
from latency_service.spaces.weightless import draw_weights
from tests.support.processes import Stage, clean_environment, free_port
from tests.support.tiny import tiny_space


def ran(*words: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(LATENCY_SERVICE_DATA_DIR=str(data_dir))
    command = [sys.executable, "-m", "latency_service", *words]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=90, check=False
    )


def test_doctor_gives_each_finding_with_its_cure(tmp_path: Path) -> None:
    ended = ran("doctor", "--json", data_dir=tmp_path)
    findings = {entry["check"]: entry for entry in json.loads(ended.stdout)}
    assert findings["runtime"]["level"] == "ok"
    assert "onnxruntime" in findings["runtime"]["found"]
    assert all(entry["cure"] for entry in findings.values() if entry["level"] != "ok")
    assert ended.returncode == any(entry["level"] == "error" for entry in findings.values())
    table = ran("doctor", data_dir=tmp_path).stdout
    assert all(check in table for check in findings)


def test_doctor_says_when_the_service_is_out_of_reach(tmp_path: Path) -> None:
    ended = ran(
        "doctor", "--server", f"http://127.0.0.1:{free_port()}", "--json", data_dir=tmp_path
    )
    assert ended.returncode == 1
    assert any(
        "does not answer" in entry["found"]
        for entry in json.loads(ended.stdout)
        if entry["level"] == "error"
    )


@pytest.mark.slow
def test_a_file_is_measured_without_any_service(stage: Stage) -> None:
    model = stage.folder / "model.onnx"
    model.write_bytes(draw_weights(materialise(tiny_space(), [8, 8])).SerializeToString())
    stage.state_dir("measure")
    ended = ran("measure", str(model), "--json", data_dir=stage.folder)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    summary = found["summary"]
    assert 0 < summary["lower_ms"] <= summary["latency_ms"] <= summary["upper_ms"]
    assert summary["verdict"] in ("ok", "unstable")
    assert len(found["rounds"]) >= summary["rounds_used"]
    assert found["fingerprint"]["runtime"]["intra_threads"] == 1


@pytest.mark.parametrize("content", [b"", b"no network"])
def test_a_file_that_is_no_model_is_invalid_input(content: bytes, stage: Stage) -> None:
    model = stage.folder / "model.onnx"
    model.write_bytes(content)
    stage.state_dir("measure")
    ended = ran("measure", str(model), "--json", data_dir=stage.folder)
    assert ended.returncode == 6, ended.stderr
    assert json.loads(ended.stderr.splitlines()[-1])["error"]["code"] == "model_invalid"


def test_a_provider_that_is_not_there_is_no_fallback(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(draw_weights(materialise(tiny_space(), [8, 8])).SerializeToString())
    ended = ran(
        "measure", str(model), "--target-provider", "NoSuchExecutionProvider", data_dir=tmp_path
    )
    assert ended.returncode != 0
    assert "NoSuchExecutionProvider" in ended.stderr
