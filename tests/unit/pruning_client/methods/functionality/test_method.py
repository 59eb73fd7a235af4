"""Functionality-oriented pruning on real digits."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pruning_client.data.sources import as_batches
from pruning_client.errors import UsageError
from pruning_client.execution.journal import Journal
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context, best_channels
from pruning_client.methods.functionality import patterns
from pruning_client.methods.functionality.method import Functionality
from pruning_client.methods.magnitude import l1_scores
from pruning_client.testing.results import check_selection
from pruning_client.training.metrics import Accuracy, evaluate
from tests.support import analytic
from tests.support.families import traced_family
from tests.support.method_contexts import digits_context
from tests.support.tiny_networks import TinyNet, digits

QUICK = Functionality(steps=6, batches=2)


def fine(space: Any) -> Predictor:
    """A predictor with every width on its lattice."""
    made = analytic.predictor(space)
    grid = analytic.lattice(space, step=1)
    sidecar = made.sidecar.model_copy(update={"lattice": grid})
    view = analytic.view(sidecar)
    return Predictor(view, analytic.LocalSource(analytic.artifact(space)))


def context_of(
    model: nn.Module, traced: Traced, share: float, predictor: Predictor, **options: Any
) -> Context:
    return digits_context(model, traced, predictor, share, **options)


def test_duplicates_go_first_where_magnitude_keeps_them(trained: TinyNet, traced: Traced) -> None:
    """Four filters of one function have the largest weights: some go, by magnitude none."""
    model = copy.deepcopy(trained)
    copies = [1, 4, 9, 14]
    with torch.no_grad():
        model.block.conv1.weight[copies] = 4 * model.block.conv1.weight[9]
        for vector in (*model.block.bn1.parameters(), *model.block.bn1.buffers()):
            if vector.dim():
                vector[copies] = vector[9].clone()
    inner = next(p.group for p in traced.producers if p.module == "block.conv1")
    made = context_of(model, traced, 0.93, fine(traced.space))
    found = Functionality(clusters=13 / 16, steps=12, batches=2).run(made)
    check_selection(found, made)
    removed = set(range(16)) - set(found.keep[inner].tolist())
    assert 0 < len(removed) <= 3
    assert removed < set(copies)
    by_magnitude = best_channels(l1_scores(model, traced), found.widths)[inner]
    assert set(copies) <= set(by_magnitude.tolist())
    narrower = best_channels(found.scores, [13, 13])[inner]
    assert len(set(copies) & set(narrower.tolist())) == 1, "the scores hold the same order"


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
def test_no_cluster_loses_its_last_filter(
    share: float, trained: TinyNet, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = context_of(trained, traced, share, fine(traced.space))
    shown: list[Any] = []
    original = Functionality._plan

    def plan(*arguments: Any) -> Any:
        shown.append(original(*arguments))
        return shown[-1]

    monkeypatch.setattr(Functionality, "_plan", plan)
    found = QUICK.run(made)
    check_selection(found, made)
    for labels, kept in zip(shown[0].labels, found.keep, strict=True):
        assert set(labels[kept]) == set(labels)


def test_the_same_seed_gives_the_same_channels(
    trained: TinyNet, traced: Traced, predictor: Predictor, tmp_path: Any, monkeypatch: Any
) -> None:
    first = QUICK.run(context_of(trained, traced, 0.6, predictor))
    check_selection(first, context_of(trained, traced, 0.6, predictor))
    again = QUICK.run(context_of(trained, traced, 0.6, predictor, journal=Journal(tmp_path)))

    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(patterns, "_patterns_of", never)
    journal = Journal(tmp_path, resume=True)
    resumed = QUICK.run(context_of(trained, traced, 0.6, predictor, journal=journal))
    for other in (again, resumed):
        assert all(np.array_equal(a, b) for a, b in zip(first.keep, other.keep, strict=True))
        assert all(np.array_equal(a, b) for a, b in zip(first.scores, other.scores, strict=True))
        assert other.facts == first.facts
        assert [p.png for p in other.pictures] == [p.png for p in first.pictures]


def test_the_report_has_accuracies_and_patterns(
    trained: TinyNet, traced: Traced, predictor: Predictor
) -> None:
    held_out = as_batches(digits(), batch_size=64)
    made = context_of(
        trained,
        traced,
        0.6,
        predictor,
        evaluate=lambda module: evaluate(module, held_out, Accuracy()),
    )
    before = copy.deepcopy(made.model.state_dict())
    found = QUICK.run(made)
    own = found.facts["accuracy without fine-tuning, %"]
    other = found.facts["accuracy of L1 at the same widths without fine-tuning, %"]
    assert 20 < own <= 100
    assert 10 < other <= 100
    (entry,) = found.history
    assert (entry["accuracy"], entry["accuracy_of_l1"]) == (own, other)
    for name, value in made.model.state_dict().items():
        assert torch.equal(value, before[name]), "the network is as it was"
    assert len(found.pictures) == 2
    for picture in found.pictures:
        assert len(picture.png) < 100_000
        image = Image.open(io.BytesIO(picture.png))
        assert image.format == "PNG"
        assert image.size[0] == 6 * (24 + 4)


@pytest.mark.parametrize("options", [{"clusters": 0}, {"steps": 0}, {"batches": 0}])
def test_options_without_meaning(options: Any) -> None:
    with pytest.raises(UsageError):
        Functionality(**options)


@pytest.mark.parametrize(
    "family", ["vgg", "mobilenet-v2", "densenet", "unet", "shufflenet", "two-streams", "convnext"]
)
def test_families(family: str) -> None:
    model, traced = traced_family(family)
    predictor = analytic.predictor(traced.space)
    inputs = traced.example[0] if len(traced.example) == 1 else traced.example
    made = Context(
        model=copy.deepcopy(model).eval(),
        traced=traced,
        train=as_batches((inputs, torch.arange(2))),
        predictor=predictor,
        target_ms=0.8 * predictor.sidecar.dense_ms,
    )
    check_selection(Functionality(steps=2, batches=1).run(made), made)
