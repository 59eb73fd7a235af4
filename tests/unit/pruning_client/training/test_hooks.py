"""The user's own loss, optimiser, schedule and loops take the place of the default ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.data.sources import as_batches
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context, Selection
from pruning_client.methods.w_gates import WGates
from pruning_client.training.config import Training
from pruning_client.training.hooks import GateTraining, Recipe
from pruning_client.training.precision import Computed, autocast, choose, possible
from pruning_client.training.trainer import finetune
from tests.support.tiny_networks import digits, tiny_net

BATCHES = as_batches(digits(), batch_size=128)


@pytest.fixture
def run(traced: Traced, predictor: Predictor) -> Any:
    def go(
        recipe: Recipe, epochs: int = 2, micro_batch: int | None = None
    ) -> tuple[nn.Module, Selection]:
        context = Context(
            model=tiny_net(),
            traced=traced,
            train=BATCHES,
            predictor=predictor,
            target_ms=0.6 * predictor.sidecar.dense_ms,
            training=Training(recipe=recipe, micro_batch=micro_batch),
        )
        return context.model, WGates(epochs=epochs).run(context)

    return go


class Counting:
    """A loss that knows how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, answers: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        return F.cross_entropy(answers, labels, label_smoothing=0.1)


def test_own_loss_optimiser_and_schedule_with_gates(run: Any) -> None:
    loss = Counting()
    rates = list[float]()

    def schedule(
        optimiser: torch.optim.Optimizer, steps: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        rates.append(optimiser.param_groups[0]["lr"])
        assert steps == 2 * len(BATCHES)
        return torch.optim.lr_scheduler.LinearLR(optimiser, total_iters=steps)

    recipe = Recipe(
        loss=loss, optimiser=lambda m: torch.optim.AdamW(m.parameters(), lr=2e-3), schedule=schedule
    )
    model, selection = run(recipe)
    plain, _ = run(Recipe())
    assert loss.calls == 2 * len(BATCHES)
    assert rates == [2e-3]
    assert not torch.equal(model.fc.weight, plain.fc.weight)
    assert sum(selection.widths) < 32


def test_own_loop_with_gates(run: Any, predictor: Predictor) -> None:
    frozen: list[bool] = []

    def loop(model: nn.Module, gates: GateTraining) -> None:
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        while gates.done < gates.steps:
            for batch in BATCHES.shuffled(gates.done):
                optimiser.zero_grad()
                loss = F.cross_entropy(model(*batch.inputs), batch.target)
                (loss + gates.loss()).backward()
                optimiser.step()
                gates.step()
                frozen.append(gates.frozen)

    _, selection = run(Recipe(train=loop))
    target_ms = 0.6 * predictor.sidecar.dense_ms
    assert 0.8 * target_ms < predictor.one_ms(selection.widths) <= target_ms
    assert frozen == sorted(frozen)
    assert frozen.count(True) == pytest.approx(0.2 * len(frozen), abs=2)


def test_gates_are_shared_by_the_pieces_of_a_batch(run: Any, predictor: Predictor) -> None:
    _, selection = run(Recipe(), micro_batch=48)
    assert predictor.one_ms(selection.widths) <= 0.6 * predictor.sidecar.dense_ms


def test_a_loop_that_ends_early_freezes_where_it_ends(run: Any, predictor: Predictor) -> None:
    _, selection = run(Recipe(train=lambda _model, _gates: None))
    assert predictor.one_ms(selection.widths) <= 0.6 * predictor.sidecar.dense_ms


def test_own_loss_and_loop_in_fine_tuning() -> None:
    loss = Counting()
    training = Training(epochs=1, lr=0.01, recipe=Recipe(loss=loss))
    finetune(tiny_net(), BATCHES, training, teacher=tiny_net())
    assert loss.calls == len(BATCHES)
    asked: list[nn.Module] = []
    student = tiny_net()
    teacher = tiny_net()
    own = Recipe(finetune=lambda small, dense: asked.extend([small, dense]))
    assert finetune(student, BATCHES, Training(epochs=1, recipe=own), teacher=teacher) == []
    assert asked == [student, teacher]
    assert not student.training


def test_mixed_precision_of_the_forward_pass() -> None:
    model = tiny_net()
    x = torch.rand(2, 1, 8, 8)
    with autocast(model, "bfloat16"):
        assert model(x).dtype == torch.bfloat16
    with autocast(model, "float32"):
        assert model(x).dtype == torch.float32
    history = finetune(model, BATCHES, Training(epochs=2, lr=0.05, precision="bfloat16"))
    assert history[-1]["loss"] < history[0]["loss"]
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize(
    ("speed", "units", "steps", "expected"),
    [
        (3.0, True, 500, "bfloat16"),
        (1.2, True, 500, "float32"),
        (3.0, False, 500, "float32"),
        (3.0, True, 20, "float32"),
    ],
)
def test_bfloat16_is_chosen_where_a_trial_is_faster(
    speed: float, units: bool, steps: int, expected: str
) -> None:
    now = 0.0
    tried: list[Computed] = []

    def step(_model: nn.Module, precision: Computed) -> None:
        nonlocal now
        tried.append(precision)
        now += 1.0 if precision == "float32" else 1 / speed

    model = tiny_net()
    found = choose("auto", model, step, steps=steps, has_units=lambda: units, clock=lambda: now)
    assert found == expected
    assert bool(tried) is (units and steps > 100)
    assert choose("bfloat16", model, step, steps=steps) == "bfloat16"


@pytest.mark.parametrize(("units", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32(
    units: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or units,
    )
    assert possible("auto", torch.device("cuda")) == [expected]


def test_a_trial_leaves_the_network_and_the_random_numbers_alone() -> None:
    model = tiny_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()

    def step(twin: nn.Module, _precision: Computed) -> None:
        twin.train()
        twin(torch.rand(2, 1, 8, 8)).sum().backward()

    choose("auto", model, step, steps=500, has_units=lambda: True)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
