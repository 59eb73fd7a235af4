"""`compress` on real digits: the packed file is smaller and loads to equal outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pruning_client.errors import DataError, UsageError
from pruning_client.execution.progress import ProgressEvent
from pruning_client.methods.unification.blocks import Blocks
from pruning_client.methods.unification.method import WeightUnification
from pruning_client.pipeline.compress import compress
from pruning_client.pipeline.compressed import Compressed, load_compressed
from pruning_client.training.config import Training
from tests.support.tiny_networks import TinyNet, digits, tiny_net

METHOD = WeightUnification(block=(1, 3), zeros=0.25, epochs=3)
TRAINING = Training(epochs=2, batch_size=64, precision="float32", recalibration_batches=5)
UNIFIED = ("conv.weight", "block.conv1.weight", "block.conv2.weight", "fc.weight")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compressed")


@pytest.fixture(scope="module")
def result(trained: TinyNet, folder: Path) -> Compressed:
    return compress(trained, digits(), method=METHOD, training=TRAINING, out_dir=folder)


@pytest.fixture(scope="module")
def loaded(result: Compressed, folder: Path) -> torch.nn.Module:
    return load_compressed(tiny_net(), folder / "unified.safetensors")


def absolute_values(weight: Tensor) -> list[int]:
    """Number of different absolute values in each block."""
    matrix = weight.detach().flatten(1)
    return [
        len(torch.unique(row[at : at + 3].abs()))
        for row in matrix
        for at in range(0, matrix.shape[1], 3)
    ]


def test_a_block_has_one_absolute_value_after_save_and_load(loaded: torch.nn.Module) -> None:
    state = loaded.state_dict()
    for name in UNIFIED:
        assert set(absolute_values(state[name])) == {1}, name


def test_the_loaded_network_has_equal_outputs(result: Compressed, loaded: torch.nn.Module) -> None:
    images = digits()[0][:64].float() / 255
    with torch.no_grad():
        assert torch.equal(loaded(images), result.module(images))


def test_retraining_moves_weights_within_the_pattern(result: Compressed) -> None:
    """Its epochs are in the history; blocks that were zero have stayed so."""
    assert {entry["phase"] for entry in result.history} == {"prune", "retrain"}
    for name in UNIFIED:
        weight = result.module.state_dict()[name]
        blocks = Blocks.of(weight.shape, (1, 3))
        is_zero = blocks.largest(weight) == 0
        assert int(is_zero.sum()) == round(0.25 * blocks.count)


def test_the_file_is_smaller_and_the_network_still_good(result: Compressed) -> None:
    sizes = result.sizes
    assert sizes.packed == len(result.file)
    assert sizes.packed < 0.5 * sizes.dense
    assert sizes.packed < sizes.dense_gzip
    assert result.quality_before > 85
    assert result.quality_after > 65
    assert result.zero_share == pytest.approx(0.25, abs=0.02)


def test_the_report_says_that_latency_stays(result: Compressed, folder: Path) -> None:
    report = json.loads((folder / "unified.json").read_text())
    assert "latency does not change" in report["latency"]
    assert report["bytes"]["packed"] == (folder / "unified.safetensors").stat().st_size
    assert report["method"]["block"] == [1, 3]
    assert sorted(path.name for path in folder.iterdir()) == [
        "unified.json",
        "unified.safetensors",
    ]


def test_the_given_network_is_not_changed(result: Compressed, trained: TinyNet) -> None:
    assert set(absolute_values(trained.conv.weight)) != {1}


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("phase", ["prune", "retrain"])
def test_a_stopped_job_continues_to_the_same_file(
    phase: str, result: Compressed, trained: TinyNet, tmp_path: Path
) -> None:
    def stop(event: ProgressEvent) -> None:
        if event.phase == phase and event.done > 0.6 * event.total:
            raise Stopped

    options = {"method": METHOD, "training": TRAINING, "out_dir": tmp_path}
    with pytest.raises(Stopped):
        compress(trained, digits(), **options, progress=stop)
    again = compress(trained, digits(), **options, resume=True)
    assert again.file == result.file


def test_another_job_is_not_continued(trained: TinyNet, tmp_path: Path) -> None:
    def stop(_event: ProgressEvent) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        compress(trained, digits(), out_dir=tmp_path, progress=stop)
    with pytest.raises(UsageError, match="belongs to another job"):
        compress(trained, digits(), method=METHOD, out_dir=tmp_path, resume=True)
    with pytest.raises(UsageError, match="no folder to resume"):
        compress(trained, digits(), resume=True)


def test_data_that_do_not_fit_are_refused(trained: TinyNet) -> None:
    with pytest.raises(DataError, match="do not fit"):
        compress(trained, (torch.zeros(20, 3, 8, 8), torch.zeros(20).long()))
