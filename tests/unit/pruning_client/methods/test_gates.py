from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pruning_client.graph.space import Traced
from pruning_client.graph.surgery import slim
from pruning_client.methods import gates as gates_module
from pruning_client.methods.gate_training import open_gates
from pruning_client.methods.gates import BAND, FreeScores, Gates, WeightScores, step
from tests.support.tiny_networks import tiny_net


def test_step_and_its_surrogate() -> None:
    scores = torch.tensor([-1.5, -1.0, -0.5, -0.01, 0.0, 0.25, 1.0, 2.0], requires_grad=True)
    gates = step(scores)
    assert gates.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    gates.sum().backward()
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad, torch.tensor([0.0, 0.0, 1.0, 1.98, 2.0, 1.5, 0.0, 0.0]))


def started(model: nn.Module, traced: Traced) -> WeightScores:
    scores = WeightScores(model, traced)
    scores.start(model, [torch.linspace(-BAND, BAND, 16), torch.linspace(BAND, -BAND, 16)])
    return scores


@pytest.mark.parametrize("kind", [WeightScores, FreeScores])
def test_scores_are_open_until_they_are_set(kind: type, traced: Traced) -> None:
    model = tiny_net()
    scores = kind(model, traced)
    assert [s.tolist() for s in scores(model)] == [pytest.approx([BAND] * 16)] * 2
    wanted = [torch.linspace(-BAND, BAND, 16), torch.linspace(BAND, -0.1, 16)]
    scores.start(model, wanted)
    for score, want in zip(scores(model), wanted, strict=True):
        torch.testing.assert_close(score.detach(), want, atol=0.05, rtol=0)


def test_filters_that_weight_decay_has_emptied_begin_closed(traced: Traced) -> None:
    model = tiny_net()
    inner = next(p.group for p in traced.producers if p.module == "block.conv1")
    with torch.no_grad():
        model.block.conv1.weight[[2, 7]] *= 0.01
    wanted = [torch.linspace(0.05, BAND, 16) for _ in range(2)]
    wanted[inner][[2, 7]] = torch.tensor([-0.5, -0.4])
    scores = WeightScores(model, traced)
    scores.start(model, wanted)
    torch.testing.assert_close(scores(model)[inner].detach(), wanted[inner], atol=0.06, rtol=0)


def test_every_group_moves_at_the_same_rate(traced: Traced) -> None:
    """However many layers a group has: two share one of these groups, the other has one."""
    model = tiny_net()
    scores = started(model, traced)
    before = torch.stack(scores(model)).detach()
    optimiser = torch.optim.SGD(scores.parameter_groups(0.01), lr=0.01)
    for parameter in scores.offsets:
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    torch.testing.assert_close(torch.stack(scores(model)).detach(), before - 0.01)


def test_scores_read_the_weights_and_leave_them_alone(traced: Traced) -> None:
    model = tiny_net()
    scores = started(model, traced)
    torch.cat(scores(model)).square().sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(v.grad is not None and float(v.grad.abs().sum()) > 0 for v in scores.vectors)


def test_a_score_belongs_to_its_own_filter(traced: Traced) -> None:
    """Changing one filter moves the score of its channel and no other."""
    model = tiny_net()
    scores = started(model, traced)
    before = scores(model)
    inner = next(p.group for p in traced.producers if p.module == "block.conv1")
    with torch.no_grad():
        model.block.conv1.weight[3] *= -1
    after = scores(model)
    moved = [
        torch.nonzero((a - b).abs() > 1e-6).flatten().tolist()
        for a, b in zip(after, before, strict=True)
    ]
    assert moved[inner] == [3]
    assert moved[1 - inner] == []


def test_a_group_is_scored_by_all_its_members(traced: Traced) -> None:
    shared = next(p.group for p in traced.producers if p.module == "conv")
    assert {p.module for p in traced.producers if p.group == shared} == {"conv", "block.conv2"}
    model = tiny_net()
    scores = started(model, traced)
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
    keep = [
        torch.randperm(16, generator=torch.Generator().manual_seed(g))[:10].sort().values
        for g in range(2)
    ]
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


def test_a_row_of_gates_is_an_image_of_its_own(traced: Traced) -> None:
    """Gates for each image: the gradients are those of the images one by one."""
    model = tiny_net().eval()
    x = torch.rand(3, 1, 8, 8)
    gates = Gates(model, traced)

    def gradients(images: torch.Tensor) -> torch.Tensor:
        rows = torch.ones(len(images), 32, requires_grad=True)
        gates.set(torch.split(rows, [16, 16], dim=1))
        with gates.attached():
            model(images).square().sum().backward()
        assert rows.grad is not None
        return rows.grad

    together = gradients(x)
    assert float(together.abs().max()) > 0
    torch.testing.assert_close(together, torch.cat([gradients(x[i : i + 1]) for i in range(3)]))


@pytest.mark.parametrize("training", [True, False])
def test_gates_of_a_norm_multiply_its_scale_and_shift(
    training: bool, traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same outputs, gradients and statistics as where they multiply its output."""
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for is_scaled in (True, False):
        if not is_scaled:
            monkeypatch.setattr(gates_module, "_has_own_scale", lambda _: False)
        model = tiny_net().train(training)
        values = [torch.linspace(0, 1, 16).requires_grad_() for _ in range(2)]
        gating = Gates(model, traced)
        gating.set(values)
        with gating.attached():
            outputs = model(images)
        outputs.square().sum().backward()
        gradients = [value.grad for value in (*model.parameters(), *values)]
        found.append((outputs.detach(), gradients, dict(model.named_buffers())))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_a_norm_is_what_it_was_after_a_pass_that_fails(traced: Traced) -> None:
    model = tiny_net()
    gating = Gates(model, traced)
    gating.set([torch.zeros(16), torch.zeros(16)])
    with gating.attached(), pytest.raises(RuntimeError):
        model(torch.rand(2, 1, 8, 8).double())
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        with pytest.raises(RuntimeError), gating.attached():
            norm(torch.rand(2, 3, 8, 8))
        assert isinstance(norm.weight, nn.Parameter)
        assert isinstance(norm.bias, nn.Parameter)
        assert not norm._forward_hooks
