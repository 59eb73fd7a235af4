"""Networks with branches that are fused for deployment: what is measured is the fused form."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_service.spaces.slicing import materialise
from pruning_client.graph import checkpoint, comparison, proof
from pruning_client.graph.deploy import deployed
from pruning_client.graph.deployed_graph import _codes, _decoded
from pruning_client.graph.errors import DeployError
from pruning_client.graph.space import SearchSpace, Traced, make_space, trace
from pruning_client.graph.surgery import slim
from tests.support.reparameterised import RepVgg, fuse


def fails(model: nn.Module) -> nn.Module:
    raise KeyError("rbr_dense")


def forgets_identity(model: nn.Module) -> nn.Module:
    model.get_submodule("blocks.1").identity = None
    fuse(model)
    return model


def shuffles(model: nn.Module) -> nn.Module:
    """Fuse, with the channels of one block reversed inside: the same outputs, another order."""
    fuse(model)
    first, second = model.get_submodule("blocks.3").fused, model.get_submodule("blocks.4").fused
    first.weight.data, first.bias.data = first.weight.flip(0).data, first.bias.flip(0).data
    second.weight.data = second.weight.flip(1).data
    return model


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return proof.redrawn(RepVgg(), 3, (torch.randn(2, 3, 16, 16),))


@pytest.fixture(scope="module")
def traced(model: nn.Module) -> Traced:
    return make_space(model, torch.randn(2, 3, 16, 16), minimum=2, deploy=fuse)


def operators(space: SearchSpace) -> list[str]:
    return [node.op_type for node in space.model.graph.node]


def check_forms(model: nn.Module, traced: Traced, seed: int) -> nn.Module:
    """The deployed form at random widths, after a check that the measured graph is its own."""
    form = traced.deployed
    assert form is not None
    keep = proof.random_keep(traced.space, seed)
    widths = [len(channels) for channels in keep]
    weights = proof.weights_of(deployed(model, form.hook, traced.example), form.graph.weights)
    measured = materialise(form.graph.space, widths, keep=keep, weights=weights)
    small = deployed(slim(model, traced, keep), form.hook, traced.example, traced)
    exported = trace(small, traced.example)
    assert comparison.agree(
        proof.run_onnx(measured, traced.example), proof.run_onnx(exported, traced.example)
    )
    shapes = [{t.name: list(t.dims) for t in g.graph.initializer} for g in (measured, exported)]
    assert shapes[0] == shapes[1]
    return small


def test_the_measured_space_is_that_of_the_deployed_form(model: nn.Module, traced: Traced) -> None:
    assert [group.width for group in traced.space.groups] == [12, 20]
    assert traced.measured.space.groups == traced.space.groups
    assert operators(traced.space).count("Conv") == 10
    assert operators(traced.measured.space).count("Conv") == 5
    assert "Add" not in operators(traced.measured.space)
    assert "BatchNormalization" not in operators(traced.measured.space)
    for seed in range(3):
        small = check_forms(model, traced, seed)
        assert small.get_submodule("blocks.1").fused.weight.shape[0] < 12
    assert hasattr(model.get_submodule("blocks.0"), "dense"), "the network itself stays as it is"


def test_the_space_of_a_campaign_is_the_measured_one(model: nn.Module, traced: Traced) -> None:
    space = SearchSpace.from_model(model, traced.example, minimum=2, deploy=fuse)
    assert space.data == traced.measured.space.data


def test_a_hook_may_return_another_network(model: nn.Module, traced: Traced) -> None:
    class Fused(nn.Module):
        def __init__(self, blocks: nn.Module, fc: nn.Module) -> None:
            super().__init__()
            self.body = blocks
            self.head = fc

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x).mean((2, 3)))

    def export(given: nn.Module) -> nn.Module:
        fuse(given)
        return Fused(given.blocks, given.fc)

    other = make_space(model, traced.example, minimum=2, deploy=export)
    assert "body.0.fused.weight" in other.measured.weights
    check_forms(model, other, 0)


def test_channels_in_another_order_are_followed(model: nn.Module, traced: Traced) -> None:
    other = make_space(model, traced.example, minimum=2, deploy=shuffles)
    assert other.measured.space.groups == traced.space.groups
    check_forms(model, other, 1)


class WithInner(nn.Module):
    """A 1x1 and a 3x3 convolution in a row, deployed as one: the inner channels vanish."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.inner = nn.Conv2d(8, 24, 1, bias=False)
        self.outer = nn.Conv2d(24, 16, 3)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = self.fused(x) if hasattr(self, "fused") else self.outer(self.inner(x))
        return self.fc(F.relu(x).mean((2, 3)))


def fuse_inner(model: nn.Module) -> None:
    inner, outer = model.get_submodule("inner"), model.get_submodule("outer")
    weight = torch.einsum("omhw,mi->oihw", outer.weight, inner.weight[:, :, 0, 0])
    model.fused = nn.Conv2d(weight.shape[1], weight.shape[0], 3)
    model.fused.weight.data, model.fused.bias.data = weight.detach(), outer.bias.detach()
    del model.inner, model.outer


def test_channels_that_are_not_deployed_stay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = WithInner().eval()
    traced = make_space(model, torch.randn(2, 3, 12, 12), minimum=2, deploy=fuse_inner)
    assert {group.name: group.width for group in traced.space.groups} == {"stem": 8, "outer": 16}
    for graph in (traced.space, traced.measured.space):
        assert "the deployed form has no channel" in graph.manifest.unprunable["inner"]
    check_forms(model, traced, 0)
    keep = proof.random_keep(traced.space)
    small = slim(model, traced, keep)
    path = checkpoint.save(small, traced, keep, tmp_path / "small.safetensors")
    loaded = checkpoint.load(WithInner(), path)
    torch.testing.assert_close(loaded.eval()(traced.example[0]), small(traced.example[0]))


def test_a_hook_that_fails_is_named(model: nn.Module, traced: Traced) -> None:
    with pytest.raises(DeployError, match=r"hook 'fails' fails on RepVgg: KeyError: 'rbr_dense'"):
        make_space(model, traced.example, deploy=fails)
    with pytest.raises(DeployError, match="returns int") as caught:
        make_space(model, traced.example, deploy=lambda _: 7)  # type: ignore[arg-type,return-value]
    assert "Return the torch module" in caught.value.cure


def test_a_hook_that_changes_the_outputs_is_refused(model: nn.Module, traced: Traced) -> None:
    with pytest.raises(DeployError, match=r"something else .* module 'blocks\.1' \(RepVggBlock\)"):
        make_space(model, traced.example, deploy=forgets_identity)


def of_fixed_width(dense: nn.Module, model: nn.Module) -> nn.Module:
    """A hook that returns the dense network's form whatever it is given."""
    fuse(model)
    if model.get_submodule("fc").weight.shape[1] < 20:
        raise ValueError("expected 20 channels")
    return model


def test_a_hook_that_cannot_be_used_on_fewer_channels(model: nn.Module, traced: Traced) -> None:
    hook = partial(of_fixed_width, model)
    with pytest.raises(DeployError, match=r"fails on RepVgg: ValueError: expected 20") as caught:
        make_space(model, traced.example, minimum=2, deploy=hook)
    assert "from the weights" in caught.value.cure


def test_the_codes_tell_channels_apart() -> None:
    codes = _codes(500)
    assert len(np.unique(codes, axis=0)) == 500
    observed = {7: codes[3], 8: codes[4] | ~codes[4], 9: codes[5] & codes[6]}
    assert _decoded(observed, codes) == {7: 3}
    more = codes[10].copy()
    more[np.flatnonzero(~more)[:2]] = True
    assert _decoded({1: more}, codes) == {1: 10}
