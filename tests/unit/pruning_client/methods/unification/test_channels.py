"""Blocks of whole channels: parts of parameters, and the projection onto a latency budget."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pruning_client.data.sources import as_batches
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context, Selection
from pruning_client.methods.gates import Gates, filters_of, masks
from pruning_client.methods.magnitude import Magnitude
from pruning_client.methods.unification.channels import (
    ChannelPart,
    ChannelProjection,
    channel_parts,
)
from pruning_client.methods.unification.method import WeightUnification
from pruning_client.training.config import Training
from tests.support.families import traced_family
from tests.support.tiny_networks import TinyNet, digits

SHARE = 0.5


def context_of(trained: TinyNet, traced: Traced, predictor: Predictor) -> Context:
    return Context(
        model=copy.deepcopy(trained),
        traced=traced,
        train=as_batches(digits(), batch_size=32),
        predictor=predictor,
        target_ms=SHARE * predictor.sidecar.dense_ms,
        training=Training(precision="float32"),
    )


@pytest.fixture
def context(trained: TinyNet, traced: Traced, predictor: Predictor) -> Context:
    return context_of(trained, traced, predictor)


@pytest.fixture(scope="module")
def pruned(trained: TinyNet, traced: Traced, predictor: Predictor) -> tuple[Context, Selection]:
    """Some 200 steps of ADMM on digits, at half of the latency."""
    context = context_of(trained, traced, predictor)
    return context, WeightUnification(epochs=4, momentum=0.5).run(context)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.Conv1d(4, 6, 3),
        nn.Linear(4, 6),
        nn.ConvTranspose2d(4, 6, 2),
        nn.ConvTranspose2d(4, 6, 2, groups=2),
        nn.ConvTranspose3d(6, 6, 2, groups=6),
    ],
    ids=repr,
)
def test_parts_are_filters(module: nn.Module) -> None:
    model = nn.Sequential(module)
    none = np.full(6, -1)
    part = ChannelPart(module=module, name="weight", group=none, channel=none)
    filters = filters_of(model, "0").detach().clone()
    np.testing.assert_allclose(
        part.energies(part.parameter.detach()), filters.square().sum(1), rtol=1e-5
    )
    factors = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.0, 3.0])
    with torch.no_grad():
        part.parameter.mul_(part.along(factors))
    torch.testing.assert_close(filters_of(model, "0").detach(), filters * factors[:, None])


@pytest.mark.parametrize("family", ["mobilenet-v2", "densenet", "unet"])
def test_a_channel_whose_parts_are_zero_can_be_removed(family: str) -> None:
    """Norms included, its gate then makes no difference."""
    model, traced = traced_family(family)
    model = copy.deepcopy(model).eval()
    sizes = [group.width for group in traced.space.groups]
    kept = [np.arange(1, size) for size in sizes]
    open_ones = masks(kept, sizes, model)
    with torch.no_grad():
        for part in channel_parts(model, traced):
            positions = [
                1.0 if group < 0 else float(open_ones[group][channel])
                for group, channel in zip(part.group, part.channel, strict=True)
            ]
            part.parameter.mul_(part.along(torch.tensor(positions)))
        inputs = traced.example
        expected = model(*inputs)
        gates = Gates(model, traced)
        gates.set(open_ones)
        with gates.attached():
            torch.testing.assert_close(model(*inputs), expected)


def test_the_projection_keeps_the_budget_and_changes_nothing_that_stays(context: Context) -> None:
    parts = channel_parts(context.model, context.traced)
    values = [part.parameter.detach() for part in parts]
    projection = ChannelProjection(context, parts, "threshold")
    keep = projection.select(values).keep
    assert context.predictor.one_ms([len(k) for k in keep]) <= context.target_ms
    for part, before, after in zip(parts, values, projection(values), strict=True):
        stays = torch.tensor(
            [
                group < 0 or channel in keep[group]
                for group, channel in zip(part.group, part.channel, strict=True)
            ]
        )
        assert torch.equal(after[stays], before[stays])
        assert not after[~stays].any()


def test_the_group_decides_by_the_total_of_its_members(context: Context) -> None:
    """A channel that is large in one member only stays."""
    model = context.model
    shared = next(p.group for p in context.traced.producers if p.module == "conv")
    with torch.no_grad():
        model.conv.weight[3] = 0.0
        model.block.conv2.weight[3] *= 100.0
    parts = channel_parts(model, context.traced)
    found = ChannelProjection(context, parts, "threshold").select(
        [part.parameter.detach() for part in parts]
    )
    assert 3 in found.keep[shared]
    assert int(found.scores[shared].argmax()) == 3


def test_pruned_channels_become_small_and_the_others_do_not(
    pruned: tuple[Context, Selection], trained: TinyNet
) -> None:
    context, selection = pruned
    before = energies(trained, context.traced)
    after = energies(context.model, context.traced)
    for g, keep in enumerate(selection.keep):
        gone = np.delete(np.arange(len(after[g])), keep)
        assert len(gone)
        assert after[g][gone].sum() < 0.05 * before[g][gone].sum()
        assert after[g][keep].sum() > 0.2 * before[g][keep].sum()


def test_removal_changes_outputs_less_than_without_admm(
    pruned: tuple[Context, Selection], trained: TinyNet, traced: Traced, predictor: Predictor
) -> None:
    context, selection = pruned
    plain = context_of(trained, traced, predictor)
    baseline = Magnitude(criterion="l2").run(plain)
    gone = distance(context, selection)
    assert gone < 0.1
    assert gone < 0.1 * distance(plain, baseline)


def energies(model: nn.Module, traced: Traced) -> list[np.ndarray]:
    """Sum of squares of all parts of each channel [G][C]."""
    totals = [np.zeros(group.width) for group in traced.space.groups]
    for producer in traced.producers:
        values = filters_of(model, producer.module).detach().square().sum(1).numpy()
        np.add.at(totals[producer.group], producer.channels, values[producer.filters])
    return totals


def distance(context: Context, selection: Selection) -> float:
    """Mean square of the change of the outputs when channels are closed, relative to theirs."""
    model = context.model.eval()
    (images,) = next(iter(context.train.ordered())).inputs
    gates = Gates(model, context.traced)
    gates.set(masks(selection.keep, [len(score) for score in selection.scores], model))
    with torch.no_grad():
        before = model(images)
        with gates.attached():
            after = model(images)
    return float((after - before).square().mean() / before.var())
