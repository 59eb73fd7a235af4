"""MetaPruning on real digits: generated weights, the budget, its weights, and resuming."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pruning_client.data.sources import as_batches
from pruning_client.errors import ModelError, UsageError
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import ProgressEvent
from pruning_client.graph.space import Traced
from pruning_client.graph.surgery import slim
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context, best_channels
from pruning_client.methods.meta_pruning.fitness import Fitness
from pruning_client.methods.meta_pruning.method import MetaPruning
from pruning_client.methods.meta_pruning.training import make_network, train_network
from pruning_client.methods.new_weights import reinitialise
from pruning_client.training.batch_norm import recalibrate_batch_norm
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe
from pruning_client.training.metrics import accuracy
from tests.support import analytic
from tests.support.tiny_networks import TinyNet, digits

#: Epochs and candidates that take a second.
SHORT = MetaPruning(
    epochs=1, generations=3, population=6, parents=2, mutations=2, crossovers=2, images=128
)


@pytest.fixture
def context(trained: TinyNet, traced: Traced, predictor: Predictor) -> Context:
    fine = predictor.sidecar.model_copy(update={"lattice": analytic.lattice(traced.space, step=1)})
    return Context(
        model=copy.deepcopy(trained),
        traced=traced,
        train=as_batches(digits(), batch_size=64),
        predictor=Predictor(analytic.view(fine), predictor.source),
        target_ms=0.5 * predictor.sidecar.dense_ms,
    )


@pytest.mark.parametrize("norms", ["recalibrated", "per-scale"])
def test_generated_weights_beat_random_ones(norms: Any, context: Context) -> None:
    """At random encodings, after three epochs from random weights."""
    options = MetaPruning(epochs=3, lr=0.1, initial="random", norms=norms)
    training, held_out = context.train.split(0.2, 0)
    teacher = copy.deepcopy(context.model)
    network = make_network(context, options)
    fitness = Fitness(context, network, training, held_out, images=256, statistics_images=256)
    rng = np.random.default_rng(0)
    encodings = network.grid.widths(network.grid.draw(rng, 5)).tolist()
    random = [fitness(widths) for widths in encodings]
    train_network(context, network, training, teacher, options)
    generated = [fitness(widths) for widths in encodings]
    assert np.mean(generated) > np.mean(random) + 30
    assert min(generated) > max(random)
    # and it is the generators that make them: not the weights that all widths share
    with torch.no_grad():
        for parameter in network.generators.parameters():
            parameter.zero_()
    shared = [fitness(widths) for widths in encodings]
    assert np.mean(generated) > np.mean(shared) + 10


def test_the_selection_meets_the_budget_with_the_first_channels(context: Context) -> None:
    order = make_network(context, SHORT).order
    selection = SHORT.run(context)
    predictor = context.predictor
    assert predictor.one_ms(selection.widths) <= context.target_ms
    for kept, choices, first in zip(selection.keep, predictor.lattice, order, strict=True):
        assert len(kept) in choices
        np.testing.assert_array_equal(kept, np.sort(first[: len(kept)]))
    narrower = [choices[0] for choices in predictor.lattice]
    for kept, first in zip(best_channels(selection.scores, narrower), order, strict=True):
        np.testing.assert_array_equal(kept, np.sort(first[: len(kept)]))


def test_the_network_has_the_weights_generated_for_its_widths(context: Context) -> None:
    selection = replace(SHORT, epochs=2).run(context)
    small = slim(context.model, context.traced, selection.keep)
    recalibrate_batch_norm(small, context.train, batches=10)
    assert accuracy(small, context.train) > 60, "before any fine-tuning"


def test_without_epochs_the_search_uses_the_given_weights(
    context: Context, trained: TinyNet
) -> None:
    selection = replace(SHORT, epochs=0).run(context)
    assert {entry["phase"] for entry in selection.history} == {"search widths"}
    torch.testing.assert_close(context.model.state_dict(), trained.state_dict())
    assert context.predictor.one_ms(selection.widths) <= context.target_ms


def test_from_scratch_nothing_is_left_of_the_training(context: Context, trained: TinyNet) -> None:
    selection = replace(SHORT, start="scratch").run(context)
    assert selection.from_scratch
    assert accuracy(context.model, context.train) < 30
    expected = copy.deepcopy(trained)
    reinitialise(expected, context.training.seed)
    torch.testing.assert_close(context.model.state_dict(), expected.state_dict())
    assert context.predictor.one_ms(selection.widths) <= context.target_ms


@pytest.mark.parametrize("option", [{"start": "scratch"}, {"initial": "random"}])
def test_new_weights_need_parameters_that_can_have_them(
    context: Context, trained: TinyNet, option: dict[str, Any]
) -> None:
    frozen = copy.deepcopy(trained)
    frozen.conv.weight.requires_grad_(False)
    problem = replace(context, model=frozen)
    SHORT.check(problem)
    with pytest.raises(UsageError, match=r"frozen .*super-net"):
        replace(SHORT, **option).check(problem)


@pytest.mark.parametrize("option", [{"start": "random"}, {"initial": "dense"}, {"norms": "own"}])
def test_an_option_that_does_not_exist_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"The option {next(iter(option))} of MetaPruning"):
        MetaPruning(**option)


def test_progress_and_history_count_candidates(context: Context) -> None:
    events: list[ProgressEvent] = []
    selection = SHORT.run(replace(context, progress=events.append))
    searched = [event for event in events if event.phase == "search widths"]
    assert {event.total for event in searched} == {18}
    assert [event.done for event in searched] == list(range(1, len(searched) + 1))
    history = [entry for entry in selection.history if entry["phase"] == "search widths"]
    assert [entry["step"] for entry in history] == list(range(1, len(history) + 1))
    assert len(history) > 1
    found = [entry["accuracy"] for entry in history]
    assert found == sorted(found)
    assert all(entry["latency_ms"] <= context.target_ms for entry in history)


class Stopped(Exception):
    pass


@pytest.mark.parametrize(("phase", "done"), [("train generated weights", 40), ("search widths", 9)])
def test_a_stopped_job_resumes_to_the_same_result(
    phase: str, done: int, context: Context, trained: TinyNet, tmp_path: Path
) -> None:
    method = replace(SHORT, epochs=2)

    def stop(event: ProgressEvent) -> None:
        if event.phase == phase and event.done == done:
            raise Stopped

    def again(journal: Journal, **more: Any) -> Context:
        return replace(context, model=copy.deepcopy(trained), journal=journal, **more)

    expected = method.run(context)
    with pytest.raises(Stopped):
        method.run(again(Journal(tmp_path / "c"), progress=stop))
    resumed = again(Journal(tmp_path / "c", resume=True))
    found = method.run(resumed)
    assert [kept.tolist() for kept in found.keep] == [kept.tolist() for kept in expected.keep]
    assert found.history == expected.history
    torch.testing.assert_close(
        resumed.model.state_dict(), context.model.state_dict(), rtol=0, atol=0
    )


def test_judged_generations_are_not_judged_again(
    context: Context, trained: TinyNet, tmp_path: Path
) -> None:
    SHORT.run(replace(context, journal=Journal(tmp_path / "c")))
    events: list[ProgressEvent] = []
    again = replace(context, model=copy.deepcopy(trained), progress=events.append)
    SHORT.run(replace(again, journal=Journal(tmp_path / "c", resume=True)))
    # the history of the finished training is told once more, for whoever follows the job
    assert [event.done for event in events] == [event.total for event in events]
    assert {event.phase for event in events} == {"train generated weights"}


def test_what_cannot_be_done_is_refused_before_any_training(context: Context) -> None:
    def started(_event: ProgressEvent) -> None:
        raise AssertionError("training has started")

    given = replace(context, progress=started)
    with pytest.raises(UsageError, match="rank=8"):
        replace(SHORT, memory_gb=1e-4).run(given)
    looped = Training(recipe=Recipe(train=lambda _model, _gates: None))
    with pytest.raises(UsageError, match="own `train`"):
        SHORT.run(replace(given, training=looped))
    frozen = copy.deepcopy(context.model).requires_grad_(False)
    with pytest.raises(ModelError, match="Unfreeze"):
        SHORT.run(replace(given, model=frozen))


def test_modules_that_are_frozen_keep_their_weights() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    reinitialise(model, seed=1)
    assert torch.equal(model.state_dict()["0.weight"], before["0.weight"])
    assert not torch.equal(model.state_dict()["1.weight"], before["1.weight"])
    assert torch.equal(state, torch.get_rng_state())
