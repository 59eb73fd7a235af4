"""``latency-service measure``: real measurements of networks that take microseconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from latency_service.agent.measuring.canaries import CANARIES, build
from tests.support import calibrations as calibration_files
from tests.support.outcomes import Run


@pytest.fixture(autouse=True)
def known_canaries(data_dir: Path, calibrations: Path) -> Iterator[None]:
    with calibration_files.known(data_dir / "measure", calibrations):
        yield


@pytest.fixture
def dynamic(tmp_path: Path) -> Path:
    """A canary whose sizes are dynamic."""
    model = build(CANARIES[0])
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "side"
    path = tmp_path / "dynamic.onnx"
    onnx.save_model(model, path)
    return path


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    path = tmp_path / "fixed.onnx"
    onnx.save_model(build(CANARIES[0]), path)
    return path


def test_a_file_is_measured_as_a_share_of_another(run: Run, dynamic: Path, fixed: Path) -> None:
    words = ("measure", str(dynamic), "--shape", "x=1x3x16x16", "--reference", str(fixed))
    shown = run(*words)
    assert shown.code == 0, shown.err
    assert "share of fixed.onnx [95 %]" in shown.out
    assert "%" in shown.out
    found = json.loads(run(*words, "--json").out)
    assert found["share"]["lower"] < found["share"]["share"] < found["share"]["upper"]


def test_a_reference_that_cannot_run_is_named(run: Run, fixed: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    shown = run("measure", str(fixed), "--reference", str(broken))
    assert shown.code == 0
    assert "not measured: it cannot run here" in shown.out


def test_dynamic_sizes_ask_for_the_option(run: Run, dynamic: Path) -> None:
    shown = run("measure", str(dynamic))
    assert shown.code == 6
    assert "--shape x=SIZES" in shown.err


@pytest.mark.parametrize("shape", ["x", "x=", "=1x3", "x=1xa", "x=1x0", "x=1x-3"])
def test_a_shape_that_is_none(run: Run, fixed: Path, shape: str) -> None:
    shown = run("measure", str(fixed), "--shape", shape)
    assert shown.code == 6
    assert "--shape x=1x3x224x224" in shown.err
