from __future__ import annotations

import copy
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning_client.data.sources import as_batches
from pruning_client.errors import TrainingFailed
from pruning_client.execution.progress import ProgressEvent
from pruning_client.training.config import Training
from pruning_client.training.metrics import accuracy
from pruning_client.training.outputs import class_distance
from pruning_client.training.trainer import finetune
from tests.support.tiny_networks import digits, tiny_net

CONFIG = Training(epochs=3, lr=0.1)


def test_learns_real_digits() -> None:
    train, held_out = as_batches(digits(), batch_size=64).split(0.2, 0)
    model = tiny_net()
    steps = list[ProgressEvent]()
    before = accuracy(model, held_out)
    history = finetune(
        model,
        train,
        CONFIG,
        progress=steps.append,
        phase="learn",
        evaluate=lambda m: accuracy(m, held_out),
    )
    assert not model.training
    assert accuracy(model, held_out) > before + 40
    assert [entry["step"] for entry in history] == [len(train), 2 * len(train), 3 * len(train)]
    assert history[-1]["accuracy"] == accuracy(model, held_out)
    assert history[-1]["loss"] < history[0]["loss"]
    assert steps[-1].done == steps[-1].total == 3 * len(train)


def test_the_same_seed_repeats() -> None:
    train, _ = as_batches(digits(), batch_size=64).split(0.2, 0)
    models = [tiny_net(), tiny_net(), tiny_net()]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        finetune(model, train, Training(epochs=1, seed=seed))
    first, again, other = (model.fc.weight for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_distillation_draws_to_the_teacher_and_leaves_it_alone() -> None:
    train, _ = as_batches(digits(), batch_size=64).split(0.2, 0)
    teacher = tiny_net()
    finetune(teacher, train, CONFIG)
    kept = copy.deepcopy(teacher.state_dict())
    batch = next(train.ordered())
    (x,), y = batch.inputs, batch.target
    gaps = []
    for share in (0.0, 1.0):
        student = tiny_net()
        finetune(student, train, Training(epochs=2, lr=0.1, distillation=share), teacher=teacher)
        with torch.no_grad():
            gaps.append(float(class_distance(student(x), teacher(x), 3.0)))
    assert gaps[1] < gaps[0]
    assert all(torch.equal(value, kept[name]) for name, value in teacher.state_dict().items())
    assert float(class_distance(y[:, None].float(), y[:, None].float(), 3.0)) == pytest.approx(0.0)


def test_pieces_of_a_batch_have_the_gradient_of_the_whole() -> None:
    """Without batch norms, whose statistics are those of a piece."""
    train, _ = as_batches(digits(), batch_size=50).split(0.2, 0)
    found = []
    for micro_batch in (None, 16):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
        history = finetune(model, train, Training(epochs=1, lr=0.05, micro_batch=micro_batch))
        found.append((model[0].weight, history[-1]["loss"]))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-4)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)


class _Graph:
    """Lives as long as the graph of one forward pass."""


class _Noted(torch.autograd.Function):
    """The identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, graphs: weakref.WeakSet[_Graph]) -> Tensor:
        ctx.graph = _Graph()
        graphs.add(ctx.graph)
        return x.clone()

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _Watched(nn.Module):
    """Notes how many graphs of earlier passes there are when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.graphs: weakref.WeakSet[_Graph] = weakref.WeakSet()
        self.held: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.held.append(len(self.graphs))
        noted: Tensor = _Noted.apply(x, self.graphs)
        return noted


def test_the_activations_of_one_piece_are_held_at_a_time() -> None:
    train, _ = as_batches(digits(), batch_size=50).split(0.2, 0)
    watched = _Watched()
    model = nn.Sequential(nn.Conv2d(1, 8, 3), watched, nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    finetune(model, train, Training(epochs=1, lr=0.05, micro_batch=16))
    assert len(watched.held) > len(train)
    assert not any(watched.held)


def test_a_loss_that_is_not_finite_stops_training_at_its_step() -> None:
    train, _ = as_batches(digits(), batch_size=64).split(0.2, 0)
    with pytest.raises(TrainingFailed, match=r"The loss is (nan|inf) at step \d+ of 22 in 'learn'"):
        finetune(tiny_net(), train, Training(epochs=1, lr=1e30), phase="learn")


def test_no_pickle_and_no_code_in_files() -> None:
    """Weights travel as safetensors: nothing in the package reads pickles."""
    package = Path(__file__).parents[4] / "pruning_client"
    for file in package.rglob("*.py"):
        text = file.read_text()
        assert "import pickle" not in text, file
        assert "torch.load(" not in text, file
