"""torch-pruning's criteria as methods: its own numbers, at widths within the budget."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch_pruning
from torch import nn
from torch.nn import functional as F
from torch_pruning.pruner.importance import GroupMagnitudeImportance, GroupTaylorImportance

from benchmarks.support.contest import TORCH_PRUNING, method_named
from benchmarks.support.torch_pruning_peers.groups import groups_of
from benchmarks.support.torch_pruning_peers.growing_penalty import GrowingPenalty, Pruner
from benchmarks.support.torch_pruning_peers.methods import (
    PEERS,
    GroupNorm,
    GrowingReg,
    Taylor,
    importances,
)
from pruning_client.errors import UsageError
from pruning_client.execution.progress import ProgressEvent
from pruning_client.graph.space import make_space
from pruning_client.methods import allocation
from pruning_client.methods.base import Method
from pruning_client.methods.magnitude import group_norm_scores
from pruning_client.testing import CHECKS, Case, Subject, make_case
from tests.support.networks import CifarResNet

Floats = npt.NDArray[np.float64]

#: Two epochs, so that a job that is stopped in the second resumes from a checkpoint; the penalty
#: grows at other steps in the second than in the first.
SHORT = [GroupNorm(), Taylor(), GrowingReg(epochs=2, growths=5)]
#: Budget between the lowest latency (0) and the dense network's (1).
SHARE = 0.4
FAMILIES = ["residual", "vgg", "mobilenet-v2", "densenet"]


def their_groups(model: nn.Module, case: Case) -> list[Any]:
    """Groups of torch-pruning's own graph [G], in the order of ours."""
    gradients = [parameter.grad for parameter in model.parameters()]
    graph = torch_pruning.DependencyGraph().build_dependency(model, case.traced.example[0])
    # its trace leaves others
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    found = []
    for group in case.traced.space.groups:
        root = model.get_submodule(group.members[0])
        remove = graph.get_pruner_of_module(root).prune_out_channels
        found.append(graph.get_pruning_group(root, remove, list(range(group.width))))
    return found


def parts(group: Any) -> set[tuple[Any, ...]]:
    """Layers with weights, what is removed of them, and the channel of each position."""
    return {
        (dep.layer, dep.pruning_fn, *sorted(zip(idxs, group[i].root_idxs, strict=True)))
        for i, (dep, idxs) in enumerate(group)
        if hasattr(dep.layer, "weight")
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_and_their_norms_are_those_of_its_own_graph(family: str) -> None:
    case = make_case(family)
    context = case.context(SHARE)
    expected = their_groups(context.model, case)
    groups = groups_of(context.model, context.traced)
    assert list(map(parts, groups)) == list(map(parts, expected))
    assert [len(group) for group in groups] == [len(parts(group)) for group in groups]
    for ours, their in zip(GroupNorm().run(context).scores, expected, strict=True):
        np.testing.assert_allclose(ours, GroupMagnitudeImportance()(their).numpy(), rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_taylor_scores_are_of_the_gradients_of_so_many_batches(family: str) -> None:
    case = make_case(family)
    model = copy.deepcopy(case.model).eval()
    for batch in islice(case.data.shuffled(case.training.seed), 3):
        F.cross_entropy(model(*batch.inputs), batch.target).backward()
    expected = map(GroupTaylorImportance(), their_groups(model, case))
    events = list[ProgressEvent]()
    context = case.context(SHARE, progress=events.append)
    context.model.train()
    found = Taylor(batches=3).run(context).scores
    for ours, their in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, their.numpy(), rtol=1e-3, atol=1e-6)
    assert [(event.done, event.total) for event in events] == [(1, 3), (2, 3), (3, 3)]
    assert context.model.training
    assert all(parameter.grad is None for parameter in context.model.parameters())


def test_channels_behind_a_padding_shortcut_are_found_in_every_layer() -> None:
    torch.manual_seed(0)
    model = CifarResNet(1)
    traced = make_space(model, torch.zeros(2, 3, 32, 32))
    (index,) = (g for g, group in enumerate(traced.space.groups) if "conv1" in group.members)
    # the shortcut pads eight channels on either side
    with torch.no_grad():
        model.get_submodule("layer2.0.conv2").weight[8 + 5] *= 30
    found = importances(GroupMagnitudeImportance(), groups_of(model, traced))[index]
    assert np.argmax(found) == 5
    ours = group_norm_scores(model, traced)[index]
    np.testing.assert_allclose(found, ours / ours.mean(), rtol=1e-5)


def test_equal_importances_of_zero_are_equal_scores() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    traced = make_space(model, torch.zeros(2, 1, 8, 8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    (found,) = importances(GroupMagnitudeImportance(), groups_of(model, traced))
    np.testing.assert_array_equal(found, np.ones(8))


def test_channels_of_several_filters_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 4, 3))
    traced = make_space(model, torch.zeros(2, 3, 12, 12))
    assert traced.space.groups[0].unit == 4
    with pytest.raises(UsageError, match="No layer makes every channel of '0' once"):
        groups_of(model, traced)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("method", SHORT, ids=TORCH_PRUNING)
def test_conforms(method: Method, check: str) -> None:
    CHECKS[check](Subject(method=method))


@pytest.mark.parametrize("method", SHORT, ids=TORCH_PRUNING)
def test_one_threshold_decides_alone(method: Method) -> None:
    context = make_case("mobilenet-v2").context(SHARE)
    found = method.run(context)
    assert context.predictor.one_ms(found.widths) <= context.target_ms
    pairs = list(zip(found.scores, found.keep, strict=True))
    cut = max(np.delete(scores, kept).max(initial=0) for scores, kept in pairs)
    above = [int((scores > cut).sum()) for scores in found.scores]
    assert found.widths == allocation.round_up(above, context.predictor.lattice)


def test_the_growing_penalty_shrinks_most_what_is_removed() -> None:
    strong = GrowingReg(epochs=4, delta_reg=0.03)
    unchanged = np.concatenate(shrinkage(replace(strong, reg=0.0, delta_reg=0.0)))
    kept, removed = shrinkage(strong)
    assert removed.max() < 0.75 < unchanged.min()
    assert removed.mean() < kept.mean() - 0.05


def shrinkage(method: GrowingReg) -> tuple[Floats, Floats]:
    """Group norms after training, divided by those before it, of the channels that are kept and of
    the others.
    """
    context = make_case("residual").context(SHARE)
    before = group_norm_scores(context.model, context.traced)
    keep = method.run(context).keep
    after = group_norm_scores(context.model, context.traced)
    ratios = [new / old for new, old in zip(after, before, strict=True)]
    kept = [ratio[index] for ratio, index in zip(ratios, keep, strict=True)]
    others = [np.delete(ratio, index) for ratio, index in zip(ratios, keep, strict=True)]
    return np.concatenate(kept), np.concatenate(others)


@pytest.mark.parametrize("growths", [3, 100])
def test_the_penalty_grows_evenly_over_the_steps(growths: int) -> None:
    counted = _Counted()
    penalty = GrowingPenalty(cast(Pruner, counted), nn.Identity(), growths=growths, steps=7)
    counts = [0]
    for _ in range(7):
        penalty.after_step()
        counts.append(counted.growths)
    assert counts[-1] == growths
    assert np.ptp([after - before for before, after in pairwise(counts)]) <= 1


class _Counted:
    def __init__(self) -> None:
        self.growths = 0

    def update_reg(self) -> None:
        self.growths += 1


def test_the_peers_are_found_by_name() -> None:
    assert tuple(PEERS) == TORCH_PRUNING
    assert method_named("tp-growing-reg", 3) == GrowingReg(epochs=3)
    assert method_named("tp-taylor", 3) == Taylor()


def test_without_torch_pruning_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith(("torch_pruning.", "benchmarks.support.torch_pruning_peers.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(SystemExit, match=r"'tp-taylor' needs torch-pruning.*\[benchmarks\]"):
        method_named("tp-taylor", 3)
    assert method_named("l1", 3).name == "l1"
