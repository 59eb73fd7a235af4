"""PFP on real digits: budgets, modes, and the guarantee beside what is seen."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pruning_client.data.sources import as_batches
from pruning_client.errors import UsageError
from pruning_client.execution.journal import Journal
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context
from pruning_client.methods.pfp import sensitivity
from pruning_client.methods.pfp.method import PFP
from pruning_client.testing.results import check_selection
from tests.support import analytic
from tests.support.families import traced_family
from tests.support.method_contexts import digits_context
from tests.support.tiny_networks import TinyNet, digits


@pytest.fixture
def context(trained: TinyNet, traced: Traced, predictor: Predictor) -> Any:
    def make(share: float = 0.6, **options: Any) -> Context:
        return digits_context(trained, traced, predictor, share, **options)

    return make


def sensitivities_of(context: Context, images: int) -> list[np.ndarray]:
    batches = [next(iter(context.train.shuffled(0))).first(images)]
    return [np.asarray(s) for s in sensitivity.sensitivities(context, batches).groups]


def test_deterministic_keeps_the_most_sensitive(context: Any) -> None:
    made = context()
    before = copy.deepcopy(made.model.state_dict())
    found = PFP(images=32).run(made)
    check_selection(found, made)
    for values, kept in zip(sensitivities_of(made, 32), found.keep, strict=True):
        top = np.sort(np.argsort(-values, kind="stable")[: len(kept)])
        np.testing.assert_array_equal(kept, top)
    for name, value in made.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_epsilon_is_monotone_in_the_budget(context: Any) -> None:
    shares = (0.35, 0.5, 0.65, 0.8, 0.95)
    found = [PFP(images=16).run(context(share)).facts["epsilon of the network"] for share in shares]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


@pytest.mark.parametrize("mode", ["random", "mixed"])
def test_weights_that_read_drawn_channels_are_multiplied(mode: Any, context: Any) -> None:
    made = context(0.5)
    before = copy.deepcopy(made.model)
    found = PFP(images=16, mode=mode).run(made)
    check_selection(found, made)
    inner = next(p.group for p in made.traced.producers if p.module == "block.conv1")
    kept = found.keep[inner]
    assert len(kept) < 16
    ratio = made.model.block.conv2.weight / before.block.conv2.weight
    factors = ratio.mean((0, 2, 3)).detach()
    torch.testing.assert_close(ratio, factors[None, :, None, None].expand_as(ratio))
    removed = np.setdiff1d(np.arange(16), kept)
    torch.testing.assert_close(factors[removed], torch.ones(len(removed)))
    assert float(factors[kept].sum()) > len(kept), "they stand for those that are removed"
    again = context(0.5)
    same = PFP(images=16, mode=mode).run(again)
    assert all(np.array_equal(a, b) for a, b in zip(found.keep, same.keep, strict=True))
    torch.testing.assert_close(again.model.state_dict(), made.model.state_dict(), rtol=0, atol=0)


def test_the_guarantee_stands_beside_what_is_seen(context: Any) -> None:
    """On the very images that were scored the removed share is within its bound."""
    few = as_batches(tuple(part[:24] for part in digits()), batch_size=24)
    facts = PFP(images=24).run(replace(context(0.85), train=few)).facts
    bound = facts["bound of the removed share on the images scored"]
    assert 0 < facts["mean relative error seen"] <= facts["largest relative error seen"] <= bound
    assert facts["images scored"] == facts["images compared"] == 24
    facts = PFP(images=24, mode="random", delta=0.1).run(context(0.85)).facts
    assert facts["largest relative error seen"] <= facts["largest epsilon of a layer"]
    assert facts["images that delta asks for"] == int(np.ceil(3 * np.log(8 * 16 * 48 / 0.1)))
    assert facts["images compared"] == 64


def test_sensitivities_are_read_from_the_journal(
    context: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = PFP(images=16).run(context(journal=Journal(tmp_path)))

    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(sensitivity.LayerSensitivity, "add", never)
    again = PFP(images=16).run(context(journal=Journal(tmp_path, resume=True)))
    assert again.facts == first.facts
    assert all(np.array_equal(a, b) for a, b in zip(again.keep, first.keep, strict=True))


@pytest.mark.parametrize("options", [{"mode": "best"}, {"delta": 0.0}, {"images": 0}])
def test_options_without_meaning(options: Any, context: Any) -> None:
    with pytest.raises(UsageError):
        PFP(**options).run(context())


@pytest.mark.parametrize(
    "family", ["vgg", "mobilenet-v2", "densenet", "unet", "shufflenet", "two-streams", "convnext"]
)
def test_every_family_can_be_scored(family: str) -> None:
    model, traced = traced_family(family)
    predictor = analytic.predictor(traced.space)
    made = Context(
        model=copy.deepcopy(model).eval(),
        traced=traced,
        train=as_batches(_samples(traced)),
        predictor=predictor,
        target_ms=0.8 * predictor.sidecar.dense_ms,
    )
    check_selection(PFP(images=2, mode="mixed").run(made), made)


def _samples(traced: Traced) -> Any:
    inputs = traced.example
    return (inputs[0] if len(inputs) == 1 else inputs), torch.arange(len(inputs[0]))
