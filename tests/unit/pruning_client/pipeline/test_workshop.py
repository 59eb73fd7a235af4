"""What a job does with a network that it cuts, before any training."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pruning_client.data.sources import as_batches
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import silent
from pruning_client.graph.space import Traced
from pruning_client.graph.surgery import slim
from pruning_client.methods.base import Selection
from pruning_client.methods.magnitude import l1_scores
from pruning_client.pipeline import workshop as workshop_module
from pruning_client.pipeline.artifacts import Stopwatch
from pruning_client.pipeline.settings import JobSettings
from pruning_client.pipeline.workshop import Workshop
from pruning_client.training.compensation.compensate import Compensated, Imitated
from pruning_client.training.config import Training
from tests.support.tiny_networks import TinyNet, digits


@pytest.fixture
def make(trained: TinyNet, traced: Traced, tmp_path: Path) -> Any:
    """A workshop of a job that trains for no epoch and measures nothing."""
    path = tmp_path / "pruned.onnx"
    path.write_bytes(b"")

    def made(**options: Any) -> Workshop:
        job: Any = SimpleNamespace(
            model=trained,
            dense_model=trained,
            traced=traced,
            train=as_batches(digits(), batch_size=64),
            settings=JobSettings(training=Training(epochs=0, **options)),
            progress=silent,
            watch=Stopwatch(),
            journal=Journal(),
            quantiser=None,
            evaluate=None,
            export=lambda _module: SimpleNamespace(path=path),
            file=lambda _data, _module: None,
        )
        scores = l1_scores(trained, traced)
        everything = [np.arange(16), np.arange(16)]
        return Workshop(job, copy.deepcopy(trained), Selection(keep=everything, scores=scores))

    return made


def test_the_layers_that_read_removed_channels_are_fitted(make: Any, traced: Traced) -> None:
    workshop = make()
    workshop.make_file((8, 8))
    made = workshop.files[0]
    plain = slim(workshop.gated, traced, made.keep)
    assert not torch.equal(made.module.block.conv2.weight, plain.block.conv2.weight)
    assert "compensate" in workshop.job.watch.seconds


def test_weights_stay_without_compensation(make: Any, traced: Traced) -> None:
    workshop = make(compensation=False)
    workshop.make_file((8, 8))
    made = workshop.files[0]
    plain = slim(workshop.gated, traced, made.keep)
    assert all(
        torch.equal(value, dict(plain.named_parameters())[name])
        for name, value in made.module.named_parameters()
    )


def test_new_weights_are_not_fitted_to_a_network_they_have_nothing_of(
    make: Any, traced: Traced
) -> None:
    workshop = make()
    workshop.selection = replace(workshop.selection, from_scratch=True)
    workshop.make_file((8, 8))
    made = workshop.files[0]
    plain = slim(workshop.gated, traced, made.keep)
    assert torch.equal(made.module.block.conv2.weight, plain.block.conv2.weight)
    # a corrected network imitates the last one, which has learnt by then
    workshop.make_file((8, 4))
    assert "compensate" in workshop.job.watch.seconds


def test_a_corrected_network_imitates_the_one_that_was_trained(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the channels that it had; the first one imitates the dense network."""
    asked: list[Imitated] = []

    def recorded(model: Any, *_: Any, imitated: Imitated, **_more: Any) -> Compensated:
        asked.append(imitated)
        return Compensated(model=model)

    monkeypatch.setattr(workshop_module, "compensate", recorded)
    workshop = make()
    workshop.make_file((8, 8))
    workshop.make_file((8, 4))
    first, second = asked
    assert first.model is workshop.job.model
    assert first.keep is None
    assert second.keep is workshop.files[0].keep
    own = workshop.files[0].module.block.conv1.weight
    kept = np.ix_(second.keep[1], second.keep[0])
    assert torch.equal(second.model.block.conv1.weight[kept], own)


def test_a_corrected_network_is_trained_at_the_rate_of_the_first(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = list[float | None]()

    def finetuned(*arguments: Any, **options: Any) -> list[dict[str, Any]]:
        rates.append(arguments[2].lr)
        return [{"phase": options["phase"], "step": 1, "loss": 1.0, "lr": 0.003}]

    monkeypatch.setattr(workshop_module, "finetune", finetuned)
    workshop = make(compensation=False)
    for width in (12, 11):
        workshop.make_file((width, width))
    assert rates == [None, 0.003]
