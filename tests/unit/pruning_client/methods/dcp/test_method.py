"""Pruning during one training run: planted channels, milestones, resuming, families, tasks."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pruning_client.data.batches import Batches
from pruning_client.data.sources import as_batches
from pruning_client.errors import BudgetError, UsageError
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import ProgressEvent
from pruning_client.graph.space import Traced, make_space
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context, Selection, best_channels
from pruning_client.methods.dcp import method
from pruning_client.methods.dcp.method import DCP
from pruning_client.methods.dcp.pruning import DynamicPruning
from pruning_client.training import recipes
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe
from pruning_client.training.metrics import accuracy
from tests.support import analytic, networks
from tests.support.families import FAMILIES
from tests.support.more_networks import inputs_of
from tests.support.planted_channels import CHANNELS, DEAD, VITAL, Planted, planted_data
from tests.support.tiny_networks import Regressor, TinyNet, digits, tiny_net


class Stopped(Exception):
    pass


@pytest.fixture
def data() -> Batches:
    return as_batches(digits(), batch_size=64)


@pytest.fixture
def context(trained: TinyNet, traced: Traced, predictor: Predictor, data: Batches) -> Context:
    return Context(
        model=copy.deepcopy(trained),
        traced=traced,
        train=data,
        predictor=predictor,
        target_ms=0.5 * predictor.sidecar.dense_ms,
    )


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[DynamicPruning]:
    """The callbacks of the runs of a test."""
    made: list[DynamicPruning] = []

    def recorded(*given: Any) -> DynamicPruning:
        made.append(DynamicPruning(*given))
        return made[-1]

    monkeypatch.setattr(method, "DynamicPruning", recorded)
    return made


def check(selection: Selection, context: Context) -> None:
    pairs = zip(selection.keep, context.predictor.lattice, selection.scores, strict=True)
    for keep, choices, score in pairs:
        assert len(keep) in choices
        assert float(score.min()) > 0
    assert context.predictor.one_ms(selection.widths) <= context.target_ms
    best = best_channels(selection.scores, selection.widths)
    assert all(np.array_equal(a, b) for a, b in zip(best, selection.keep, strict=True))


def same(a: nn.Module, b: nn.Module) -> bool:
    states = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in states)


@pytest.mark.parametrize("criterion", [1, 2])
def test_an_irrelevant_channel_goes_first_and_a_vital_one_is_worth_most(criterion: Any) -> None:
    """With weights that stand still, so that the planted channels keep what they are worth."""
    model = Planted()
    traced = make_space(model, torch.zeros(2, CHANNELS, 4, 4), minimum=1)
    predictor = analytic.predictor(traced.space)
    made = Context(
        model=model,
        traced=traced,
        train=as_batches(planted_data(model), batch_size=64),
        predictor=predictor,
        target_ms=predictor.one_ms([8]),
    )
    chosen = DCP(criterion=criterion, epochs=60, milestones=1, drop=0.1, draws=4, memory=1e4)
    selection = replace(chosen, lr=0.0, weight_decay=0.0).run(made)
    check(selection, made)
    (keep,), (scores,) = selection.keep, selection.scores
    assert len(keep) == 8
    assert DEAD not in keep
    assert (int(scores.argmin()), int(scores.argmax())) == (DEAD, VITAL)


def test_predicted_latencies_follow_the_milestones(
    context: Context, watched: list[DynamicPruning]
) -> None:
    """At most R^(m/M) of the full latency, and by less than the lattice's steps below it."""
    DCP(epochs=1, milestones=7, draws=1).run(context)
    predictor = context.predictor
    full_ms = predictor.sidecar.dense_ms
    found = np.array(watched[0].milestone_ms)
    goals = full_ms * 0.5 ** (np.arange(1, 8) / 7)
    assert len(found) == 7
    assert np.all(found <= goals + 1e-9)
    step_ms = max(
        full_ms - predictor.one_ms([12, 16]),
        full_ms - predictor.one_ms([16, 12]),
    )
    assert np.all(found >= goals - step_ms)


def test_channels_are_switched_off_at_random_until_the_last_milestone(
    context: Context, watched: list[DynamicPruning]
) -> None:
    shares = dict[int, float]()

    def look(event: ProgressEvent) -> None:
        padded = watched[0]._gates._padded
        assert padded is not None
        shares[event.done] = float(padded[:-1].mean())

    selection = DCP(epochs=1, milestones=2, draws=1).run(replace(context, progress=look))
    # after a step all channels that are left are on: what is evaluated is not thinned
    assert shares[1] == 1.0
    assert shares[28] == pytest.approx(sum(selection.widths) / 32)
    assert watched[0].further_passes == 0


def test_accuracy_is_kept_beside_a_random_choice(context: Context) -> None:
    """The network works at the chosen channels when the run ends, without fine-tuning."""
    selection = DCP(epochs=4).run(replace(context, target_ms=0.6 * context.target_ms / 0.5))
    pruning = DynamicPruning(context, DCP(), 10)
    mask = torch.zeros(32, dtype=torch.bool)
    mask[np.concatenate([selection.keep[0], 16 + selection.keep[1]])] = True
    pruning._set(mask)
    with pruning.attached():
        assert accuracy(context.model, context.train) > 75


@pytest.mark.parametrize(
    ("epochs", "stop"), [(2, 30), (3, 60)]
)  # resumed between milestones, and after the last one
@pytest.mark.parametrize("criterion", [1, 2])
def test_resumed_to_the_same_result(
    criterion: Any, epochs: int, stop: int, context: Context, tmp_path: Path
) -> None:
    def stopping(event: ProgressEvent) -> None:
        if event.done == stop:
            raise Stopped

    def made(journal: Journal) -> Context:
        return replace(context, model=tiny_net(), journal=journal)

    method = DCP(criterion=criterion, epochs=epochs, milestones=5, draws=2)
    whole = made(Journal())
    expected = method.run(whole)
    with pytest.raises(Stopped):
        method.run(replace(made(Journal(tmp_path)), progress=stopping))
    resumed = made(Journal(tmp_path, resume=True))
    found = method.run(resumed)
    assert expected.history == found.history
    assert all(np.array_equal(a, b) for a, b in zip(expected.keep, found.keep, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(expected.scores, found.scores, strict=True))
    states = zip(
        whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in states)


def test_further_passes_change_no_weight_and_no_statistic(context: Context) -> None:
    """One step of a run with more passes ends at the same network."""
    models = []
    for draws in (1, 5):
        made = replace(context, model=copy.deepcopy(context.model))
        pruning = DynamicPruning(made, DCP(draws=draws, drop=1e-9), 100)
        with pruning.attached():
            _one_step(made, pruning)
        models.append(made.model)
    assert same(*models)


def _one_step(context: Context, pruning: DynamicPruning) -> None:
    phase = method.pruning_phase(
        epochs=1, lr=0.1, momentum=0.9, weight_decay=0.0, schedule=DCP().schedule
    )
    first = next(iter(context.train.shuffled(0)))
    made = replace(context, train=as_batches((first.inputs[0], first.target), batch_size=64))
    method.run_training(made, phase, pruning, copy.deepcopy(context.model))


def test_every_process_draws_the_same_channels(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever torch's own random numbers are there; accuracies are averaged over samples."""
    drawn = []
    for rank in (0, 1):
        torch.manual_seed(rank)
        pruning = DynamicPruning(context, DCP(), 100)
        pruning.before_pass()
        drawn.append(pruning._drawn[0])
    assert torch.equal(*drawn)
    monkeypatch.setattr(
        "pruning_client.execution.distributed.average",
        # the other process has six right answers of eight
        lambda tensor: tensor.add_(torch.tensor([6.0, 8.0])).div_(2),
    )
    scores = torch.eye(10)[[1, 2]].repeat(2, 1)
    pruning.observe(scores, torch.tensor([1, 1, 1, 2]))
    pruning.after_pass()
    assert pruning._accuracies == [(3 + 6) / 12]


def test_from_scratch_weights_are_new_and_learn(context: Context) -> None:
    before = copy.deepcopy(context.model.state_dict())
    method = DCP(start="scratch", epochs=3, draws=1)
    # of another seed than the first weights of the given network
    selection = method.run(replace(context, training=Training(seed=5)))
    check(selection, context)
    assert selection.from_scratch
    similar = torch.cosine_similarity(
        before["conv.weight"].flatten(), context.model.state_dict()["conv.weight"].flatten(), 0
    )
    assert float(similar) < 0.6
    losses = [entry["loss"] for entry in selection.history]
    assert losses[-1] < 0.6 * losses[0]


def test_from_scratch_the_rate_is_high_first_and_low_last() -> None:
    method = DCP(start="scratch")
    assert method.rate == 0.1
    assert method.schedule(50, 1000) > 0.99
    assert method.schedule(1000, 1000) < 0.02
    assert DCP().schedule(1000, 1000) == 1.0


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = tiny_net()
        self.scale = nn.Parameter(torch.ones(10))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * self.scale


def test_from_scratch_needs_to_know_how_to_initialise(context: Context) -> None:
    problem = replace(context, model=Bare())
    with pytest.raises(UsageError, match=r"'network' .Bare. has parameters") as caught:
        DCP(start="scratch").check(problem)
    assert "reset_parameters" in caught.value.cure
    DCP().check(problem)


def test_from_scratch_nothing_may_be_frozen(context: Context) -> None:
    model = tiny_net()
    model.conv.weight.requires_grad_(False)
    with pytest.raises(UsageError, match=r"frozen .conv\.weight."):
        DCP(start="scratch").check(replace(context, model=model))


def test_an_own_loop_does_not_report_accuracies(context: Context) -> None:
    own = Training(recipe=Recipe(train=lambda model, gates: None))
    with pytest.raises(UsageError, match="accuracy of every batch"):
        DCP().check(replace(context, training=own))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("criterion", 3),
        ("start", "warm"),
        ("epochs", 0),
        ("milestones", 0),
        ("drop", 1.0),
        ("draws", 0),
        ("memory", 0.5),
    ],
)
def test_options_out_of_range(option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"option {option} of DCP is"):
        DCP(**{option: value})


def test_two_passes_are_the_fewest_of_criterion_2() -> None:
    with pytest.raises(UsageError, match="draws"):
        DCP(criterion=2, draws=1)


def test_out_of_reach(context: Context) -> None:
    with pytest.raises(BudgetError, match="the lowest predicted latency is"):
        DCP().run(replace(context, target_ms=0.01 * context.target_ms))


@pytest.mark.parametrize("family", ["residual", "vgg", "mobilenet-v2", "densenet"])
def test_families(family: str) -> None:
    torch.manual_seed(0)
    model = networks.randomised(FAMILIES[family]())
    (example,) = inputs_of(model)
    traced = make_space(model, example, minimum=2)
    predictor = analytic.predictor(traced.space)
    images = torch.randn(32, *example.shape[1:])
    lowest_ms = predictor.one_ms([choices[0] for choices in predictor.lattice])
    made = Context(
        model=model,
        traced=traced,
        train=as_batches((images, torch.arange(32) % 10), batch_size=8),
        predictor=predictor,
        target_ms=0.5 * (lowest_ms + predictor.sidecar.dense_ms),
        training=Training(distillation=0.0),
    )
    check(DCP(epochs=2, milestones=3, draws=2, lr=1e-3).run(made), made)


@pytest.mark.parametrize("criterion", [1, 2])
def test_without_class_scores_the_loss_decides(criterion: Any) -> None:
    """Without channel 5 of the second group the loss rises four times as far as without any
    other.
    """
    model = Regressor()
    traced = make_space(model, torch.zeros(2, 1, 8, 8), minimum=1)
    predictor = analytic.predictor(traced.space)
    images = torch.rand(64, 1, 8, 8)
    with torch.no_grad():
        target = model(images)

    def loss(outputs: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
        return sum((outputs[k] - wanted[k]).square().mean() for k in wanted)  # type: ignore[return-value]

    made = Context(
        model=model,
        traced=traced,
        train=as_batches((images, target), batch_size=32),
        predictor=predictor,
        target_ms=0.6 * predictor.sidecar.dense_ms,
        training=Training(recipe=Recipe(loss=loss), distillation=0.0),
    )
    selection = DCP(criterion=criterion, epochs=20, lr=0.0, milestones=1, draws=6, drop=0.1).run(
        made
    )
    check(selection, made)
    assert int(selection.scores[1].argmax()) == 5


def test_a_segmentation_is_judged_by_its_pixels() -> None:
    from pruning_client.methods.dcp.quality import batch_quality

    scores = torch.zeros(1, 2, 2, 2)
    scores[:, 1] = 1
    labels = torch.tensor([[[1, 0], [255, 1]]])
    quality, count = batch_quality(Training(recipe=recipes.segmentation()), scores, labels)
    assert (float(quality), float(count)) == (2.0, 3.0)
