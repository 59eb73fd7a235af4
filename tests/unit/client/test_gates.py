from __future__ import annotations

import copy

import pytest
import torch

from pruning_client.groups import Traced
from pruning_client.loop import open_gates
from pruning_client.methods.gates import OFFSET, FreeScores, Gates, WeightScores, step
from pruning_client.surgery import slim
from tests.unit.client.nets import tiny_net


def test_step_and_its_surrogate() -> None:
    scores = torch.tensor([-1.5, -1.0, -0.5, -0.01, 0.0, 0.25, 1.0, 2.0], requires_grad=True)
    gates = step(scores)
    assert gates.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    gates.sum().backward()
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, torch.tensor([0.0, 0.0, 1.0, 1.98, 2.0, 1.5, 0.0, 0.0]))


@pytest.mark.parametrize("kind", [WeightScores, FreeScores])
@pytest.mark.parametrize("seed", range(5))
def test_all_gates_start_open_inside_the_band(kind: type, seed: int, traced: Traced) -> None:
    scores = kind(tiny_net(), traced, torch.Generator().manual_seed(seed))(tiny_net())
    every = torch.cat(scores).detach()
    assert [len(s) for s in scores] == [16, 16]
    assert float(every.min()) > 0
    assert float(every.max()) < 1
    assert float(every.mean()) == pytest.approx(OFFSET, abs=0.05)
    assert all(float(s.detach().std()) > 0.03 for s in scores)


def test_scores_follow_the_weights(traced: Traced) -> None:
    model = tiny_net()
    scores = WeightScores(model, traced, torch.Generator().manual_seed(0))
    sum(s.sum() for s in scores(model)).backward()
    for layer in (model.conv, model.block.conv1, model.block.conv2):
        assert layer.weight.grad is not None
        assert float(layer.weight.grad.abs().sum()) > 0


def test_a_score_belongs_to_its_own_filter(traced: Traced) -> None:
    """Changing one filter moves the score of its channel and no other."""
    model = tiny_net()
    scores = WeightScores(model, traced, torch.Generator().manual_seed(0))
    before = scores(model)
    inner = next(p.group for p in traced.producers if p.module == "block.conv1")
    with torch.no_grad():
        model.block.conv1.weight[3] *= -1
    after = scores(model)
    moved = [torch.nonzero((a - b).abs() > 1e-6).flatten().tolist() for a, b in zip(after, before, strict=True)]
    assert moved[inner] == [3]
    assert moved[1 - inner] == []


def test_a_group_is_scored_by_all_its_members(traced: Traced) -> None:
    shared = next(p.group for p in traced.producers if p.module == "conv")
    assert {p.module for p in traced.producers if p.group == shared} == {"conv", "block.conv2"}
    model = tiny_net()
    scores = WeightScores(model, traced, torch.Generator().manual_seed(0))
    before = scores(model)[shared].detach()
    with torch.no_grad():
        model.block.conv2.weight[5] *= -1
    assert torch.nonzero((scores(model)[shared] - before).abs() > 1e-6).flatten().tolist() == [5]


def test_the_minimum_stays_open() -> None:
    scores = torch.tensor([-0.5, -0.2, -0.9, -0.1], requires_grad=True)
    (gates,) = open_gates([scores], [2])
    assert gates.tolist() == [0, 1, 0, 1]
    gates.sum().backward()
    assert scores.grad is not None
    assert float(scores.grad.min()) > 0  # and still learns


def test_gated_equals_slimmed(traced: Traced) -> None:
    model = tiny_net().eval()
    x = torch.rand(3, 1, 8, 8)
    keep = [torch.randperm(16, generator=torch.Generator().manual_seed(g))[:10].sort().values for g in range(2)]
    gates = Gates(model, traced)
    gates.set([torch.zeros(16).scatter(0, index, 1.0) for index in keep])
    with torch.no_grad():
        dense = model(x)
        with gates.attached():
            gated = model(x)
        small = slim(model, traced, [index.numpy() for index in keep])(x)
        torch.testing.assert_close(gated, small, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(gated, dense, atol=1e-3)
        torch.testing.assert_close(model(x), dense)  # the hooks are gone


def test_open_gates_change_nothing(traced: Traced) -> None:
    model = tiny_net().eval()
    x = torch.rand(3, 1, 8, 8)
    expected = copy.deepcopy(model)(x)
    gates = Gates(model, traced)
    gates.set([torch.ones(16), torch.ones(16)])
    with gates.attached():
        torch.testing.assert_close(model(x), expected)
