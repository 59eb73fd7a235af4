"""The main job against a real service: real digits, real training, a device whose truth is
known.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from latency_service.core.transport import ApiError
from pruning_client import Client, load, prune
from pruning_client.data.sources import as_batches
from pruning_client.errors import (
    BudgetError,
    DataError,
    Missing,
    ModelError,
    PredictorRefused,
    SlowerThanDense,
    UsageError,
)
from pruning_client.execution.progress import ProgressEvent
from pruning_client.methods.dcp.wide import DCPH
from pruning_client.methods.magnitude import Magnitude, Uniform
from pruning_client.methods.w_gates import WGates
from pruning_client.pipeline.verify import Verify
from pruning_client.reports.schema import Report
from pruning_client.service.campaign import Campaign
from pruning_client.service.target import Target
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe
from pruning_client.training.metrics import accuracy
from tests.support.boards import ServedBoard, file_ms, second_board
from tests.support.tiny_networks import TinyNet, digits, tiny_net

TRAINING = Training(epochs=1, lr=0.03, batch_size=64)
CAMPAIGN = Campaign(architectures=12, repeats=2, timeout_seconds=60)


def go(served: ServedBoard, model: torch.nn.Module, **more: Any) -> Any:
    arguments = {
        "budget": "60%",
        "client": served.client,
        "method": WGates(epochs=2),
        "training": TRAINING,
        "campaign": CAMPAIGN,
        **more,
    }
    return prune(model, digits(), **arguments)


def test_without_a_folder_nothing_of_the_job_is_lost(
    served: ServedBoard, trained: TinyNet, tmp_path: Path
) -> None:
    result = go(served, trained, method=Magnitude())
    assert result.folder is None
    assert result.met == result.report.met
    assert list(result.widths.values()) == [group.after for group in result.report.widths]
    # the bytes are those that were measured
    assert hashlib.sha256(result.file).hexdigest() == result.report.verifications[-1].model_sha256
    folder = result.save(tmp_path / "kept")
    assert (folder / "pruned.onnx").read_bytes() == result.file
    names = {"pruned.onnx", "pruned.safetensors", "report.html", "report.json"}
    assert {path.name for path in folder.iterdir()} == names


def test_the_whole_job(served: ServedBoard, trained: TinyNet, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    result = go(served, trained, out_dir=tmp_path / "out")
    report = result.report
    # the budget is met as measured, although the device is slower than the predictor says
    assert report.met
    assert report.budget_ms == pytest.approx(0.6 * report.dense.latency_ms)
    assert 0.85 * report.budget_ms < report.pruned.latency_ms <= report.budget_ms
    assert sum(row.after_ms for row in report.layers) == pytest.approx(report.pruned.latency_ms)
    assert report.pruned.latency_ms == pytest.approx(1.05 * report.pruned.predicted_ms, rel=0.01)
    # the very file was measured
    delivered = (tmp_path / "out" / "pruned.onnx").read_bytes()
    assert report.pruned.latency_ms == pytest.approx(1.05 * file_ms(delivered), rel=0.01)
    # it computes what the module computes, and the checkpoint loads into the user's class
    x = torch.rand(3, 1, 8, 8)
    session = onnxruntime.InferenceSession(delivered, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(answer, result.module(x).numpy(), atol=1e-5)
        loaded = load(tiny_net(), tmp_path / "out" / "pruned.safetensors").eval()
        torch.testing.assert_close(loaded(x), result.module(x))
    # widths are on the lattice, and the user's model is as it was
    lattice = served.client.predictor(report.predictor.id).sidecar.lattice
    assert all(
        group.after in choices for group, choices in zip(report.widths, lattice, strict=True)
    )
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert accuracy(result.module, as_batches(digits())) > 60
    # the report is written, drawn and recorded
    written = Report.model_validate_json((tmp_path / "out" / "report.json").read_text())
    assert written == report
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        report.files.values()
    )
    assert "<h2>Training</h2>" in (tmp_path / "out" / "report.html").read_text()
    (run,) = served.client.runs()
    assert run.id == report.run_id
    assert run.report["met"] is True
    assert len(report.points) >= 12
    assert report.predictor.rivals


def test_the_second_job_uses_the_predictor_that_is_there(
    served: ServedBoard, trained: TinyNet
) -> None:
    first = go(served, trained).report
    jobs = served.board.jobs.count("measure")
    second = go(
        served,
        trained,
        budget="75%",
        method=Uniform(),
        campaign=replace(CAMPAIGN, source="served"),
    ).report
    assert served.board.jobs.count("measure") == jobs
    # the same one, or what the first job's verification has made of it meanwhile
    assert second.predictor.version >= first.predictor.version
    assert (second.method, second.predictor.source, second.met) == ("uniform", "served", True)
    assert second.pruned.latency_ms > first.pruned.latency_ms


def slower_once_finetuned(served: ServedBoard) -> None:
    """Delivered files take a quarter longer than their structures."""
    seen: list[float] = []

    def truth(data: bytes) -> float:
        seen.append(round(file_ms(data), 6))
        # the dense network comes first; the same structure again is the delivered file
        is_delivered = seen[-1] != seen[0] and seen.count(seen[-1]) > 1
        return seen[-1] * (1.25 if is_delivered else 1)

    served.board.truth = truth


def test_a_file_that_misses_is_corrected_and_measured_again(
    served: ServedBoard, trained: TinyNet
) -> None:
    slower_once_finetuned(served)
    report = go(served, trained).report
    delivered = [entry for entry in report.verifications if entry.stage == "delivered"]
    assert delivered[0].latency_ms > report.budget_ms >= report.pruned.upper_ms
    assert report.met
    assert report.probability > 0.975
    assert report.verification.readings == len(report.verifications) <= 12
    assert {entry["phase"] for entry in report.history} == {"prune", "fine-tune", "fine-tune again"}


def test_no_training_again_without_late_rounds(served: ServedBoard, trained: TinyNet) -> None:
    slower_once_finetuned(served)
    report = go(served, trained, verify=Verify(late_rounds=0)).report
    assert not report.met
    assert {entry["phase"] for entry in report.history} == {"prune", "fine-tune"}


def test_the_same_seed_gives_the_same_file(
    served: ServedBoard, trained: TinyNet, tmp_path: Path
) -> None:
    files = []
    for name in ("a", "b"):
        go(served, trained, out_dir=tmp_path / name, training=replace(TRAINING, seed=3))
        files.append((tmp_path / name / "pruned.onnx").read_bytes())
    assert files[0] == files[1]


def test_a_stopped_job_goes_on_to_the_same_file(
    served: ServedBoard, trained: TinyNet, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(step: ProgressEvent) -> None:
        if step.phase == "fine-tune" and step.done == 30:
            raise Stopped

    training = replace(TRAINING, epochs=2)
    whole = go(served, trained, training=training, out_dir=tmp_path / "whole")
    with pytest.raises(Stopped):
        go(served, trained, training=training, out_dir=tmp_path / "stopped", progress=stop)
    measured = served.board.jobs.count("verify")
    served.board.factor *= (
        1.005  # the file still keeps the budget; what was measured before the stop counts
    )
    with pytest.raises(UsageError, match="belongs to another job"):
        go(
            served,
            trained,
            out_dir=tmp_path / "stopped",
            resume=True,
            training=replace(training, seed=1),
        )
    resumed = go(served, trained, training=training, out_dir=tmp_path / "stopped", resume=True)
    first_file = [entry.stage for entry in whole.report.verifications].index("delivered")
    made = served.board.jobs.count("verify") - measured
    assert made == resumed.report.verification.readings - first_file
    before, after = (
        [entry.latency_ms for entry in one.report.verifications] for one in (whole, resumed)
    )
    assert before[:first_file] == after[:first_file]
    assert after[first_file] == pytest.approx(1.005 * before[first_file])
    assert (tmp_path / "whole" / "pruned.onnx").read_bytes() == (
        tmp_path / "stopped" / "pruned.onnx"
    ).read_bytes()
    assert sorted(p.name for p in (tmp_path / "stopped").iterdir()) == sorted(
        resumed.report.files.values()
    )


def test_a_network_slower_than_the_dense_one_is_refused(
    served: ServedBoard, trained: TinyNet, tmp_path: Path
) -> None:
    served.board.truth = lambda data: (
        file_ms(data) * (3 if served.board.jobs.count("verify") > 4 else 1)
    )
    with pytest.raises(SlowerThanDense, match="it is not delivered") as caught:
        go(
            served,
            trained,
            method=Magnitude(),
            verify=Verify(rounds=0, late_rounds=0),
            out_dir=tmp_path,
        )
    assert caught.value.exit_code == 8
    assert not (tmp_path / "pruned.onnx").exists()
    assert [run.state for run in served.client.runs()] == ["failed"]


def test_both_of_two_devices(served: ServedBoard, trained: TinyNet) -> None:
    with second_board(served, factor=1.2) as phone:
        report = go(served, trained, target=["board", "phone"], method=Magnitude()).report
    assert [target.device for target in report.targets] == ["board", "phone"]
    assert all(target.outcome == "met" for target in report.targets)
    assert phone.jobs.count("verify") == served.board.jobs.count("verify")
    assert report.over_percent == max(target.over_percent for target in report.targets)
    assert {entry.device for entry in report.verifications} == {"board", "phone"}


def test_a_predictor_of_another_target_is_refused(served: ServedBoard, trained: TinyNet) -> None:
    found = go(served, trained, method=Uniform()).report.predictor.id
    campaign = replace(CAMPAIGN, predictor_id=found)
    assert go(served, trained, method=Magnitude(), campaign=campaign).report.predictor.id == found
    two = Target(device="board", threads=2)
    with pytest.raises(PredictorRefused, match=r"/t1/.*, not .*/t2/"):
        go(served, trained, target=two, method=Magnitude(), campaign=campaign)


def test_own_measure_of_quality(served: ServedBoard, trained: TinyNet) -> None:
    """With it, what the network answers need not be classes of the labels."""
    recipe = Recipe(
        loss=lambda answers, labels: (answers.mean(1) - labels).square().mean(),
        evaluate=lambda _model: 42.0,
    )
    images, labels = digits()
    result = prune(
        trained,
        (images, labels.float() / 10),
        budget="60%",
        method=WGates(epochs=2),
        training=replace(TRAINING, lr=0.01, distillation=0.0, recipe=recipe),
        campaign=CAMPAIGN,
        client=served.client,
    )
    assert result.report.pruned.accuracy == 42.0
    assert result.report.met


def test_nothing_to_do(served: ServedBoard, trained: TinyNet) -> None:
    with pytest.raises(BudgetError, match="there is nothing to do") as caught:
        go(served, trained, budget="100ms")
    assert caught.value.exit_code == 7


def test_out_of_reach_names_the_lowest(served: ServedBoard, trained: TinyNet) -> None:
    with pytest.raises(
        BudgetError, match=r"below what this network can reach: the lowest latency is 0\.\d+ ms"
    ) as caught:
        go(served, trained, budget="1us")
    lowest_ms = caught.value.lowest_ms
    assert lowest_ms is not None
    assert f"the lowest latency is {lowest_ms:.4g} ms" in caught.value.message
    kind, parts = caught.value.__reduce__()
    assert kind(*parts).lowest_ms == lowest_ms


def test_unknown_device(served: ServedBoard, trained: TinyNet) -> None:
    with pytest.raises(Missing, match="no device 'phone'; known: board"):
        go(served, trained, target="phone")


def test_no_predictor_and_none_may_be_made(served: ServedBoard, trained: TinyNet) -> None:
    with pytest.raises(Missing, match="There is no predictor") as caught:
        go(served, trained, campaign=Campaign(allowed=False))
    assert "latency-service campaigns create --space" in caught.value.cure
    assert "--device board" in caught.value.cure


def test_nothing_is_sent_when_the_data_do_not_fit(served: ServedBoard, trained: TinyNet) -> None:
    with pytest.raises(DataError, match="do not fit"):
        prune(
            trained,
            (np.zeros((4, 3, 8, 8), np.float32), np.zeros(4)),
            budget="60%",
            client=served.client,
        )
    with pytest.raises(UsageError, match="not a valid duration"):
        go(served, trained, budget="soon")
    assert served.client.spaces() == []


def test_a_model_that_cannot_be_traced(served: ServedBoard) -> None:
    class Moody(TinyNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if float(x.sum()) > 0 else -x)

    with pytest.raises(ModelError, match="Moody"):
        go(served, Moody())


def test_wrong_token(served: ServedBoard, trained: TinyNet) -> None:
    with (
        Client(served.url, "another-token-0123456789") as client,
        pytest.raises(ApiError) as caught,
    ):
        go(served, trained, client=client)
    assert caught.value.status == 401
    assert caught.value.cure


def test_the_report_is_plain_json(served: ServedBoard, trained: TinyNet, tmp_path: Path) -> None:
    go(served, trained, out_dir=tmp_path, method=Magnitude())
    found = json.loads((tmp_path / "report.json").read_text())
    assert {
        "budget_ms",
        "met",
        "dense",
        "pruned",
        "predictor",
        "widths",
        "seed",
        "command",
        "versions",
    } <= found.keys()
    assert {"latency_ms", "accuracy"} <= found["dense"].keys()
    assert {"latency_ms", "lower_ms", "upper_ms", "predicted_ms", "accuracy"} <= found[
        "pruned"
    ].keys()
    assert {"mape", "repeat_difference", "measurements", "rivals"} <= found["predictor"].keys()


def test_a_wider_network_ends_at_the_latency_of_the_given_one(
    served: ServedBoard, trained: TinyNet
) -> None:
    """Of DCPH the budget is a share of the given network's latency, which is the report's dense
    one.
    """
    result = go(served, trained, budget="100%", method=DCPH(epochs=2, draws=2))
    report = result.report
    assert report.met
    assert report.dense.latency_ms == pytest.approx(report.budget_ms)
    assert 0.85 * report.budget_ms < report.pruned.latency_ms <= report.budget_ms
    assert report.pruned.latency_ms == pytest.approx(1.05 * file_ms(result.file), rel=0.01)
    # the dense network is the given one, the groups are those of the wider one
    assert report.dense.parameters == sum(value.numel() for value in trained.parameters())
    assert report.dense.latency_ms == pytest.approx(1.05 * report.dense.predicted_ms, rel=0.01)
    assert [group.before for group in report.widths] == [32, 32]
    held_out = as_batches(digits()).split(TRAINING.held_out, TRAINING.seed)[1]
    assert report.dense.accuracy == pytest.approx(accuracy(trained, held_out), abs=0.3)


def test_a_budget_above_the_wider_network_leaves_nothing_to_do(
    served: ServedBoard, trained: TinyNet
) -> None:
    with pytest.raises(BudgetError, match="The wider network takes"):
        go(served, trained, budget="1000%", method=DCPH())
