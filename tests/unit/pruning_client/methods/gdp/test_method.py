"""GDP end to end: gates polarise, nothing changes when they are removed, the budget is met."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pruning_client.errors import BudgetError, UsageError
from pruning_client.execution.journal import Journal
from pruning_client.graph.space import Traced
from pruning_client.graph.surgery import slim
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context, Selection
from pruning_client.methods.gdp import GDP
from pruning_client.methods.gdp.method import train_polar_gates
from pruning_client.methods.gdp.polar_gates import PolarGates
from pruning_client.training.config import Training
from pruning_client.training.hooks import GateTraining, Recipe
from tests.support.method_contexts import FAMILIES, digits_context, family_context, inputs_of
from tests.support.tiny_networks import TinyNet, digits

#: Options of the trainings that several tests look at.
OPTIONS = GDP(epochs=3)


@pytest.fixture
def context(trained: TinyNet, traced: Traced, predictor: Predictor) -> Context:
    return digits_context(trained, traced, predictor, 0.6)


def fresh(context: Context) -> Context:
    """The same inputs with a copy of the network."""
    return replace(context, model=copy.deepcopy(context.model))


def between(gates: list[Tensor], options: GDP) -> int:
    """Number of gates between the threshold and the margin."""
    values = torch.cat(gates)
    return int(((values > options.threshold) & (values < options.margin)).sum())


@cache
def trained_family(family: str) -> tuple[Context, PolarGates, Selection]:
    """Weights and gates that are trained together; the gates are not yet absorbed."""
    made = family_context(family)
    return made, *train_polar_gates(made, OPTIONS)


@pytest.mark.parametrize("family", FAMILIES)
def test_removal_changes_nothing(family: str) -> None:
    """The outputs just before the gates are absorbed and their channels removed, and just after."""
    made, gates, selection = trained_family(family)
    inputs = inputs_of(made)
    model = copy.deepcopy(made.model)
    with torch.no_grad():
        with gates.attached():
            before = made.model(*inputs)
        gates.places.absorb(model, gates.values)
        after = slim(model, made.traced, selection.keep)(*inputs)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    open_gates = torch.cat(
        [gate[keep] for gate, keep in zip(gates.values, selection.keep, strict=True)]
    )
    assert float(open_gates.min()) < 0.99, "there is something to absorb"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_budget_is_met_with_polarised_gates(family: str) -> None:
    made, gates, selection = trained_family(family)
    assert made.predictor.one_ms(selection.widths) <= made.target_ms
    for gate, keep, choices in zip(
        gates.values, selection.keep, made.predictor.lattice, strict=True
    ):
        assert len(keep) in choices
        assert torch.nonzero(gate).flatten().tolist() == keep.tolist()
    assert between(gates.values, OPTIONS) == 0


def test_the_method_absorbs_the_gates(context: Context) -> None:
    """What `run` leaves computes, cut, what the gated network computed before."""
    gates, selection = train_polar_gates(fresh(context), GDP(epochs=1))
    GDP(epochs=1).run(context)
    (batch,) = list(context.train.ordered())[:1]
    gated = gates._context.model
    with torch.no_grad():
        with gates.attached():
            before = gated(*batch.inputs)
        after = slim(context.model, context.traced, selection.keep)(*batch.inputs)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_gates_polarise_by_themselves_as_epsilon_falls(context: Context) -> None:
    """Before they settle: with a constant epsilon many gates stay in between."""
    falling, _ = train_polar_gates(fresh(context), GDP(epochs=4))
    constant, _ = train_polar_gates(fresh(context), GDP(epochs=4, last_epsilon=0.1))
    assert falling.undecided < 0.15
    assert constant.undecided > 2 * falling.undecided


def test_the_network_is_as_good_as_before_once_the_gates_are_gone(context: Context) -> None:
    images, labels = digits()
    selection = GDP(epochs=4).run(context)
    small = slim(context.model, context.traced, selection.keep)
    with torch.no_grad():
        right = (small(images.float() / 255).argmax(1) == labels).float().mean()
    assert float(right) > 0.8


def test_a_stopped_training_is_continued_to_the_same_result(
    context: Context, tmp_path: Path
) -> None:
    """Stopped in the last of three epochs, in which the widths are decided."""
    options = GDP(epochs=3)
    whole = options.run(fresh(context))

    class Stopped(Exception):
        pass

    def stop(event: object) -> None:
        if getattr(event, "done", 0) == 2 * len(context.train) + 3:
            raise Stopped

    with pytest.raises(Stopped):
        options.run(replace(fresh(context), journal=Journal(tmp_path), progress=stop))
    resumed = options.run(replace(fresh(context), journal=Journal(tmp_path, resume=True)))
    for a, b in zip(resumed.keep, whole.keep, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(resumed.scores, whole.scores, strict=True):
        np.testing.assert_array_equal(a, b)
    assert resumed.history == whole.history


def test_a_loop_of_the_users_own(context: Context) -> None:
    """It ends long before its steps are taken, and the result is polarised all the same."""

    def train(model: torch.nn.Module, gates: GateTraining) -> None:
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
        for batch in list(context.train.shuffled(0))[:5]:
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(*batch.inputs), batch.target)
            (loss + gates.loss()).backward()
            optimiser.step()
            gates.step()

    made = replace(context, training=Training(recipe=Recipe(train=train)))
    options = GDP()
    gates, selection = train_polar_gates(made, options)
    assert between(gates.values, options) == 0
    assert made.predictor.one_ms(selection.widths) <= made.target_ms


def test_branches_are_switched_together(context: Context) -> None:
    """The gate of a branch multiplies those of its channels."""
    gates, selection = train_polar_gates(context, GDP(epochs=2, blocks=True))
    assert context.predictor.one_ms(selection.widths) <= context.target_ms
    assert len(gates._switches) == 1
    with torch.no_grad():
        gates._switches.fill_(0.01)
        inner = next(p.group for p in context.traced.producers if p.module == "block.conv1")
        closed = torch.split(gates._effective(), gates._sizes)
    assert float(closed[inner].max()) < 0.6 * float(closed[1 - inner].max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.1, "last_epsilon": 0.2}, "epsilon"),
        ({"threshold": 0.6}, "threshold"),
        ({"margin": 1.5}, "margin"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        GDP(**options)  # type: ignore[arg-type]


def test_a_network_without_residual_branches_has_none_to_switch() -> None:
    with pytest.raises(UsageError, match="no residual branch"):
        GDP(blocks=True).check(family_context("vgg"))


def test_out_of_reach(context: Context) -> None:
    with pytest.raises(BudgetError):
        GDP().run(replace(context, target_ms=1e-6))
