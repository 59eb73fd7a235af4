"""The demo, with less of everything: all parts, real processes, real images, a real
verification.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from latency_service.db.engine import Database
from latency_service.measurements.models import Measurement
from latency_service.predictors.models import StoredPredictor
from latency_service.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.timeout(400)
def test_from_a_network_to_a_measured_file(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [
        sys.executable,
        str(ROOT / "examples" / "mnist_demo.py"),
        "--out",
        str(out),
        "--quick",
    ]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    report = json.loads((out / "report.json").read_text())
    dense = report["dense"]
    pruned = report["pruned"]
    predictor = report["predictor"]
    assert report["met"]
    assert pruned["latency_ms"] <= report["budget_ms"] == pytest.approx(0.6 * dense["latency_ms"])
    assert pruned["lower_ms"] < pruned["latency_ms"] < pruned["upper_ms"]
    assert pruned["macs"] < dense["macs"]
    assert (
        pruned["accuracy"] > 30
    )  # ten classes: three times what guessing gives, after seconds of training
    assert predictor["mape"] > 0
    assert predictor["repeat_difference"] > 0
    assert {"lpnet", "lpnet-mlp", "flops-line", "gradient-boosting"} <= {
        rival["name"] for rival in predictor["rivals"]
    }
    assert "<html" in (out / "report.html").read_text()[:500]
    session = ort.InferenceSession(out / "pruned.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [1, 28, 28]
    assert (out / "pruned.safetensors").stat().st_size > 0
    assert_kept(out / "service", report)


def assert_kept(data_dir: Path, report: dict[str, Any]) -> None:
    """The database that the demo leaves opens again and holds what the report is made of.

    24 architectures were measured; the predictor was trained on every one with a trainable
    measurement, and on no other.
    """
    told: dict[str, Any] = report["predictor"]
    database = Database(Settings(data_dir=data_dir).url)
    with database.read() as session:
        predictor = session.get(StoredPredictor, told["id"])
        assert predictor is not None
        sampled = session.query(Measurement).filter(
            Measurement.space_id == predictor.space_id, Measurement.campaign_id.is_not(None)
        )
        assert len({tuple(one.widths or ()) for one in sampled}) == 24
        assert (
            len({tuple(one.widths or ()) for one in sampled if one.trainable})
            == told["measurements"]
        )
        assert session.query(Measurement).count() > sampled.count() > 24
    database.dispose()
