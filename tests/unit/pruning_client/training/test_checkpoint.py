"""Training that was stopped and is resumed ends as if it had not been stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pruning_client.data.sources import as_batches
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import ProgressEvent
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context, Selection
from pruning_client.methods.registry import method_of
from pruning_client.training.checkpoint import optimiser_state, restore_optimiser
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe
from pruning_client.training.trainer import finetune
from tests.support.tiny_networks import digits, tiny_net


class Stopped(Exception):
    pass


def stop_at(done: int) -> Any:
    def progress(step: ProgressEvent) -> None:
        if step.done == done:
            raise Stopped

    return progress


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW])
def test_optimisers_survive(kind: Any) -> None:
    def made() -> tuple[nn.Linear, Any]:
        torch.manual_seed(0)
        layer = nn.Linear(3, 2)
        return layer, kind(layer.parameters(), lr=0.1)

    def steps(layer: nn.Linear, optimiser: Any, count: int) -> None:
        for _ in range(count):
            optimiser.zero_grad()
            layer(torch.ones(4, 3)).square().sum().backward()
            optimiser.step()

    layer, optimiser = made()
    steps(layer, optimiser, 2)
    tensors, values = optimiser_state("o", optimiser)
    other, restored = made()
    other.load_state_dict(layer.state_dict())
    restore_optimiser(
        "o", restored, {name: value.clone() for name, value in tensors.items()}, values
    )
    steps(layer, optimiser, 2)
    steps(other, restored, 2)
    assert same(layer, other)


@pytest.mark.parametrize("method", ["w-gates", "free-gates"])
@pytest.mark.parametrize("stop", [30, 50])  # gates open, gates frozen; an epoch has 28 steps
def test_gates_resume_to_the_same_weights(
    method: str, stop: int, traced: Traced, predictor: Predictor, tmp_path: Path
) -> None:
    def context(journal: Journal) -> Context:
        return Context(
            model=tiny_net(),
            traced=traced,
            train=as_batches(digits(), batch_size=64),
            predictor=predictor,
            target_ms=0.6 * predictor.sidecar.dense_ms,
            journal=journal,
        )

    def run(given: Context) -> Selection:
        return method_of(method, epochs=2, frozen_share=0.5).run(given)

    whole = context(Journal())
    expected = run(whole)
    with pytest.raises(Stopped):
        run(replace(context(Journal(tmp_path / "c")), progress=stop_at(stop)))
    resumed = context(Journal(tmp_path / "c", resume=True))
    found = run(resumed)
    assert same(whole.model, resumed.model)
    assert all(np.array_equal(a, b) for a, b in zip(expected.keep, found.keep, strict=True))
    assert expected.history == found.history


def recipe() -> Recipe:
    return Recipe(
        optimiser=lambda model: torch.optim.Adam(model.parameters(), lr=1e-3),
        schedule=lambda optimiser, steps: torch.optim.lr_scheduler.CosineAnnealingLR(
            optimiser, steps
        ),
    )


def milestones() -> Recipe:
    """The rate falls after the training was stopped."""
    return Recipe(
        schedule=lambda optimiser, steps: torch.optim.lr_scheduler.MultiStepLR(
            optimiser, [steps - 3]
        )
    )


@pytest.mark.parametrize(
    "given", [Recipe(), recipe(), milestones()], ids=["default", "own", "milestones"]
)
def test_fine_tuning_resumes_to_the_same_weights(given: Recipe, tmp_path: Path) -> None:
    data = as_batches(digits(), batch_size=256)
    training = Training(epochs=3, recipe=given)

    def run(journal: Journal, **more: Any) -> tuple[nn.Module, list[dict[str, Any]]]:
        model = tiny_net()
        return model, finetune(model, data, training, teacher=tiny_net(), journal=journal, **more)

    whole, history = run(Journal())
    with pytest.raises(Stopped):
        run(Journal(tmp_path / "c"), progress=stop_at(2 * len(data) + 1))
    resumed, found = run(Journal(tmp_path / "c", resume=True))
    assert same(whole, resumed)
    assert history == found
    finished, _ = run(Journal(tmp_path / "c", resume=True), progress=stop_at(1))
    assert same(whole, finished)
