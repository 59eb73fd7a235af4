"""A whole job for an int8 target: what is measured, delivered and reported is the int8 file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from rich.console import Console

from latency_service.core.quantisation import precision_of
from pruning_client import (
    Campaign,
    Magnitude,
    Quantisation,
    Recipe,
    Target,
    Training,
    UsageError,
    print_report,
    prune,
    sweep,
)
from pruning_client.errors import Refused
from pruning_client.reports.html import render
from tests.support.boards import ServedBoard, file_ms
from tests.support.tiny_networks import TinyNet, digits

TRAINING = Training(epochs=1, lr=0.03, batch_size=64)
CAMPAIGN = Campaign(architectures=12, repeats=2, timeout_seconds=60)
INT8 = Target(device="board", precision="int8")


def go(served: ServedBoard, model: torch.nn.Module, **more: Any) -> Any:
    arguments = {
        "budget": "60%",
        "target": INT8,
        "client": served.client,
        "method": Magnitude(),
        "training": TRAINING,
        "campaign": CAMPAIGN,
        **more,
    }
    return prune(model, digits(), **arguments)


def precision(data: bytes) -> str:
    return precision_of(onnx.load_model_from_string(data))


def speed_of_int8(factor: float) -> Callable[[bytes], float]:
    """The truth of a device on which int8 files take `factor` times as long as fp32 ones."""

    def truth(data: bytes) -> float:
        return file_ms(data) * (factor if precision(data) == "int8" else 1.0)

    return truth


def accuracy_of(data: bytes, images: torch.Tensor, labels: torch.Tensor) -> float:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    (scores,) = session.run(None, {name: images.numpy()})
    return float(100 * np.mean(scores.argmax(1) == labels.numpy()))


def test_the_whole_job(served: ServedBoard, trained: TinyNet, tmp_path: Path) -> None:
    """The case of a user who asked for int8 and got an fp32 file that was called met."""
    measured: list[str] = []

    def truth(data: bytes) -> float:
        measured.append(precision(data))
        return speed_of_int8(0.5)(data)

    served.board.truth = truth
    out = tmp_path / "out"
    images, labels = digits()
    validation = (images[:500], labels[:500])
    result = go(served, trained, out_dir=out, val_data=validation)
    report = result.report
    assert report.met
    assert report.runtime.precision == "int8"
    # the very file: int8 weights per channel, and fp32 beside it
    delivered = (out / "pruned.onnx").read_bytes()
    plain = (out / "pruned-fp32.onnx").read_bytes()
    assert (delivered, plain) == (result.file, result.float_file)
    weights = {t.data_type for t in onnx.load_model_from_string(delivered).graph.initializer}
    assert TensorProto.INT8 in weights
    assert precision(plain) == "fp32"
    # everything that decides was measured in int8, the fp32 file at the end
    assert set(measured[:-1]) == {"int8"}
    assert measured[-1] == "fp32"
    assert report.pruned.latency_ms == pytest.approx(0.5 * 1.05 * file_ms(delivered), rel=0.01)
    assert report.dense.latency_ms > report.pruned.latency_ms
    # accuracy and size are those of the files
    held_out = (validation[0].float() / 255, validation[1])
    quantised = report.quantised
    assert quantised is not None
    assert report.pruned.accuracy == pytest.approx(accuracy_of(delivered, *held_out))
    assert quantised.fp32.accuracy == pytest.approx(accuracy_of(plain, *held_out))
    assert report.pruned.accuracy >= quantised.fp32.accuracy - 1
    assert report.pruned.file_bytes == len(delivered)
    assert quantised.fp32.file_bytes == len(plain)
    assert quantised.fp32.latency_ms == pytest.approx(2 * report.pruned.latency_ms, rel=0.02)
    assert report.warnings == []
    assert sorted(path.name for path in out.iterdir()) == sorted(report.files.values())
    # the layers of both files have the same names, those of the module's parameters
    assert {row.name for row in report.layers} >= {"conv.weight", "block.conv1.weight"}


def test_the_accuracy_of_an_fp32_job_is_that_of_its_file(
    served: ServedBoard, trained: TinyNet
) -> None:
    """Measured through ONNX Runtime, whatever the module says of itself."""
    asked: list[str] = []

    def quality(model: torch.nn.Module) -> float:
        asked.append(type(model).__name__)
        return 42.0 if isinstance(model, TinyNet) else 77.0

    training = replace(TRAINING, recipe=Recipe(evaluate=quality))
    result = go(served, trained, target="board", training=training)
    assert result.report.pruned.accuracy == result.report.dense.accuracy == 77.0
    assert result.report.quantised is None
    assert result.float_file is None
    assert set(asked) == {"TinyNet", "OnnxModule"}


def test_int8_that_is_slower_than_fp32_is_said(
    served: ServedBoard, trained: TinyNet, tmp_path: Path
) -> None:
    served.board.truth = speed_of_int8(1.5)
    report = go(served, trained, out_dir=tmp_path).report
    (warning,) = report.warnings
    assert "int8 is slower than fp32 on 'board'" in warning
    assert "pruned-fp32.onnx" in warning
    assert (tmp_path / "pruned-fp32.onnx").exists()
    assert "int8 is slower than fp32" in (tmp_path / "report.html").read_text()
    console = Console(record=True, width=200)
    print_report(report, console)
    shown = console.export_text()
    assert warning in shown
    assert "pruned, fp32" in shown


@pytest.mark.long
def test_layers_left_in_float_are_listed(served: ServedBoard, trained: TinyNet) -> None:
    quantisation = Quantisation(calibration="minmax", images=32, float_layers=("fc",))
    result = go(served, trained, quantisation=quantisation)
    names = {t.name for t in onnx.load_model_from_string(result.file).graph.initializer}
    assert "fc.weight" in names
    assert result.report.quantised.float_layers == ["fc"]
    assert "<code>fc</code>" in render(result.report)


def test_quantisation_aware_training_is_a_phase_of_its_own(
    served: ServedBoard, trained: TinyNet
) -> None:
    """The network is trained with rounded weights, and delivered with those before the rounding."""
    result = go(served, trained, quantisation=Quantisation(aware_epochs=2))
    phases = [entry.get("phase") for entry in result.report.history]
    assert phases.count("quantisation-aware training") == 2
    assert "quantisation-aware training" in result.report.timings_seconds
    assert result.report.met
    assert not any("parametrizations" in name for name, _ in result.module.named_parameters())
    assert precision(result.file) == "int8"


@pytest.mark.long
def test_the_same_seed_gives_the_same_int8_file(served: ServedBoard, trained: TinyNet) -> None:
    assert go(served, trained).file == go(served, trained).file


@pytest.mark.long
def test_budgets_of_a_sweep_share_the_dense_file(
    served: ServedBoard, trained: TinyNet, tmp_path: Path
) -> None:
    front = sweep(
        trained,
        digits(),
        budgets=["60%", "75%"],
        out_dir=tmp_path,
        target=INT8,
        client=served.client,
        method=Magnitude(),
        training=TRAINING,
        campaign=CAMPAIGN,
    )
    assert [point.met for point in front.points] == [True, True]
    for name in ("60pct", "75pct"):
        assert precision((tmp_path / name / "pruned.onnx").read_bytes()) == "int8"


def test_a_layer_that_does_not_exist(served: ServedBoard, trained: TinyNet) -> None:
    with pytest.raises(UsageError, match="no layer 'head'") as caught:
        go(served, trained, quantisation=Quantisation(float_layers=("head",)))
    assert "block.conv1" in caught.value.cure
    assert served.board.jobs == []


def test_an_accuracy_that_no_int8_file_keeps(served: ServedBoard, trained: TinyNet) -> None:
    """Refused before anything is measured."""
    answers = iter([90.0] + [50.0] * 20)
    recipe = Recipe(evaluate=lambda _model: next(answers))
    with pytest.raises(Refused, match="No int8 file of this network is within 1 points"):
        go(served, trained, training=replace(TRAINING, recipe=recipe))
    assert served.board.jobs == []


def test_targets_of_both_precisions(served: ServedBoard, trained: TinyNet) -> None:
    with pytest.raises(UsageError, match="different precisions: fp32, int8"):
        go(served, trained, target=[INT8, Target(device="board")])
    assert served.client.spaces() == []


def test_quantisation_for_an_fp32_target(served: ServedBoard, trained: TinyNet) -> None:
    with pytest.raises(UsageError, match="is not quantised") as caught:
        go(served, trained, target="board", quantisation=Quantisation())
    assert "int8" in caught.value.cure


def test_a_measure_of_quality_that_looks_inside_the_network(
    served: ServedBoard, trained: TinyNet
) -> None:
    """It would say nothing of the file, for an fp32 target as well."""
    recipe = Recipe(evaluate=lambda model: float(model.fc.weight.sum()))
    with pytest.raises(UsageError, match="fails on an exported file: AttributeError") as caught:
        go(served, trained, target="board", training=replace(TRAINING, recipe=recipe))
    assert "call that module itself" in caught.value.cure
    assert served.board.jobs == []
