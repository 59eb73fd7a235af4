"""Methods end to end on real digits: the budget is reached, widths are on the lattice, the same
seed repeats.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from latency_service.spaces.layers import total_macs
from pruning_client.data.batches import images_in
from pruning_client.data.sources import as_batches
from pruning_client.errors import BudgetError, UsageError
from pruning_client.graph.space import Traced
from pruning_client.graph.surgery import slim
from pruning_client.latency.predictor import Predictor
from pruning_client.methods import joint_training
from pruning_client.methods.base import Context, Selection
from pruning_client.methods.gate_options import GateOptions
from pruning_client.methods.gate_training import TrainedGates
from pruning_client.methods.gates import FreeScores, WeightScores
from pruning_client.methods.initial_widths import initial_widths
from pruning_client.methods.latency_loss import LatencyLoss
from pruning_client.methods.magnitude import Magnitude
from pruning_client.methods.registry import METHODS, method_of
from pruning_client.methods.removal_costs import removal_costs
from pruning_client.training import precision
from pruning_client.training.batch_norm import recalibrate_batch_norm
from pruning_client.training.metrics import accuracy
from tests.support.method_contexts import digits_context
from tests.support.short_methods import short
from tests.support.tiny_networks import TinyNet, digits


@pytest.fixture
def context(trained: TinyNet, traced: Traced, predictor: Predictor) -> Any:
    def make(share: float = 0.6) -> Context:
        return digits_context(trained, traced, predictor, share)

    return make


@pytest.fixture
def run(context: Any) -> Any:
    def go(method: str = "w-gates", share: float = 0.6, **options: Any) -> Selection:
        return replace(short(method), **options).run(context(share))

    return go


def check(selection: Selection, predictor: Predictor, share: float) -> None:
    for keep, choices, score in zip(
        selection.keep, predictor.lattice, selection.scores, strict=True
    ):
        assert len(keep) in choices
        assert list(keep) == sorted(set(keep))
        assert float(score.min()) > 0
    assert predictor.one_ms(selection.widths) <= share * predictor.sidecar.dense_ms


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("share", [0.4, 0.8])
def test_every_method_reaches_the_budget(
    method: str, share: float, run: Any, predictor: Predictor
) -> None:
    check(run(method, share), predictor, share)


@pytest.mark.parametrize("method", ["w-gates", "gdp"])
def test_trying_precisions_changes_no_gate(
    method: str, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor where bfloat16 is tried, and is not faster."""
    monkeypatch.setattr(precision, "_has_units", lambda: True)
    monkeypatch.setattr(precision, "_WORTHWHILE", float("inf"))
    found = []
    for name in ("auto", "float32"):
        made = context()
        training = replace(made.training, precision=name)
        # steps enough for a trial
        found.append(method_of(method, epochs=4).run(replace(made, training=training)))
    tried, untried = found
    assert tried.history == untried.history
    assert all(map(np.array_equal, tried.keep, untried.keep))


@pytest.mark.parametrize("share", [0.4, 0.8])
def test_most_macs_keeps_most_of_them(
    share: float, run: Any, predictor: Predictor, traced: Traced
) -> None:
    """Of all widths on the lattice; by the space's own count of multiply-accumulates."""
    everything = np.array(list(product(*predictor.lattice)))
    within = everything[
        predictor.latency_ms(everything.tolist()) <= share * predictor.sidecar.dense_ms
    ]
    found = run("most-macs", share).widths
    assert total_macs(traced.space, found) == pytest.approx(total_macs(traced.space, within).max())


@pytest.mark.parametrize("loss", ["dual", "abs", "log1p"])
def test_every_loss_reaches_the_budget(loss: str, run: Any, predictor: Predictor) -> None:
    check(run(loss=loss), predictor, 0.6)


def test_dual_brings_the_gates_themselves_to_the_budget(run: Any, predictor: Predictor) -> None:
    """Before any rounding: the last latencies with open gates lie around the target, on neither
    side of it only.
    """
    history = run(share=0.6).history
    target_ms = 0.6 * predictor.sidecar.dense_ms
    last = [entry["latency_ms"] for entry in history if "multiplier" in entry][-3:]
    assert float(np.mean(last)) == pytest.approx(target_ms, rel=0.15)


@pytest.mark.parametrize("kind", [WeightScores, FreeScores])
def test_gates_begin_where_the_target_is_met(kind: Any, context: Any) -> None:
    """On the widths that the network prefers."""
    made = context(share=0.6)
    costs = [cost.double().numpy() for cost in removal_costs(made)]
    options = GateOptions(epochs=2)
    epochs = options.epochs + made.training.finetune_epochs
    widths = initial_widths(made, costs, images=epochs * images_in(made.train))
    scores = kind(made.model, made.traced)
    gates = TrainedGates(made, scores, options)
    gates.renew()
    gates.loss()
    assert [int((score >= 0).sum()) for score in scores(made.model)] == widths
    assert gates.latency_ms == pytest.approx(made.predictor.one_ms(widths))


def test_the_history_ends_frozen(run: Any) -> None:
    history = run().history
    steps = [entry["step"] for entry in history]
    frozen = [entry for entry in history if "multiplier" not in entry]
    assert steps == sorted(steps)
    assert len({entry["latency_ms"] for entry in frozen}) == 1
    assert frozen[0]["step"] > 0.75 * steps[-1]


def test_the_same_seed_repeats(run: Any) -> None:
    a = run()
    b = run()
    assert all(np.array_equal(x, y) for x, y in zip(a.keep, b.keep, strict=True))
    assert a.history == b.history


def test_the_teacher_is_not_gated(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = list[int]()

    def recorded(*given: Any) -> list[dict[str, Any]]:
        hooks.extend(len(module._forward_hooks) for module in given[-1].modules())
        return []

    monkeypatch.setattr(joint_training, "run_training", recorded)
    run()
    assert hooks
    assert set(hooks) == {0}


def test_out_of_reach(run: Any) -> None:
    with pytest.raises(BudgetError, match="the lowest predicted latency is"):
        run(share=0.01)


def test_unknown_method() -> None:
    with pytest.raises(UsageError, match="no method 'magic'") as caught:
        method_of("magic")
    assert "w-gates" in caught.value.cure


def test_an_option_that_a_method_does_not_have() -> None:
    assert method_of("l1", loss=None, allocator="greedy") == Magnitude(allocator="greedy")
    with pytest.raises(UsageError, match="'l1' has no option 'loss'") as caught:
        method_of("l1", loss="dual")
    assert "allocator" in caught.value.cure


@pytest.mark.parametrize("name", sorted(METHODS))
def test_methods_know_their_names(name: str) -> None:
    assert method_of(name).name == name


@pytest.mark.parametrize(("loss", "expected"), [("abs", 0.5), ("log1p", np.log(4.0))])
def test_loss_terms(loss: Any, expected: float) -> None:
    term = LatencyLoss(GateOptions(loss=loss), target_ms=2.0, steps=10)
    assert float(term(torch.tensor(3.0))) == pytest.approx(expected)


@pytest.mark.parametrize(("loss", "times"), [("abs", 7.0), ("dual", 7.0), ("log1p", 1.0)])
def test_the_losses_of_a_budget_are_in_units_of_what_channels_are_worth(
    loss: Any, times: float
) -> None:
    plain, scaled = (LatencyLoss(GateOptions(loss=loss), target_ms=2.0, steps=10) for _ in range(2))
    latency = torch.tensor(3.0)
    assert float(scaled(latency, 7.0)) == pytest.approx(times * float(plain(latency)))


def test_the_multiplier_of_dual_grows_and_shrinks() -> None:
    term = LatencyLoss(GateOptions(rho=1.0, multiplier=0.02), target_ms=2.0, steps=10)
    term(torch.tensor(3.0))
    assert term.multiplier == pytest.approx(0.07)
    term(torch.tensor(1.0))
    term(torch.tensor(1.0))
    assert term.multiplier == 0.0


def test_dual_pulls_from_both_sides() -> None:
    for ms, sign in ((3.0, 1), (1.0, -1)):
        latency = torch.tensor(ms, requires_grad=True)
        LatencyLoss(GateOptions(), target_ms=2.0, steps=10)(latency).backward()
        assert latency.grad is not None
        assert float(latency.grad) * sign > 0


def test_too_few_steps_are_left_out_with_a_note(context: Any) -> None:
    """The selection is that of the initial widths, and the weights are the dense network's."""
    made = context(share=0.6)
    before = copy.deepcopy(made.model.state_dict())
    method = method_of("w-gates", epochs=1, least_steps=29)
    selection = method.run(made)
    assert "28 steps" in selection.notes[0]
    assert not selection.history
    assert all(torch.equal(value, before[name]) for name, value in made.model.state_dict().items())
    check(selection, made.predictor, 0.6)
    trained = replace(method, least_steps=0).run(context(share=0.6))
    assert trained.history
    assert not trained.notes


def test_the_accuracy_shown_is_that_of_the_network_cut_there(context: Any, traced: Traced) -> None:
    """With statistics of batch norms that belong to the gates, not with the running means."""
    held_out = as_batches(digits(), batch_size=64).split(0.2, 3)[1]
    made = replace(context(share=0.4), evaluate=lambda model: accuracy(model, held_out))
    selection = method_of("w-gates", epochs=2).run(made)
    small = slim(made.model, traced, selection.keep)
    stale = accuracy(small, held_out)
    recalibrate_batch_norm(small, made.train, batches=10, seed=made.training.seed)
    assert selection.history[-1]["accuracy"] == pytest.approx(accuracy(small, held_out), abs=0.5)
    assert abs(stale - selection.history[-1]["accuracy"]) > 0.5
