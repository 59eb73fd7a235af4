"""Networks in the forms in which users bring them: closed gates = removed from the graph = removed
from the module.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning_client.graph import comparison, proof
from pruning_client.graph.restore import restore
from pruning_client.graph.space import make_space, trace
from pruning_client.graph.surgery import slim
from tests.support import networks, user_networks
from tests.support.constructs import checked, widths_of


def images(size: int = 16) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_a_norm_that_activates_does_so_once() -> None:
    model = user_networks.SplitNormAct().eval()
    traced = make_space(model, images())
    assert widths_of(traced) == {"conv1": 8, "conv1#2": 8, "conv2": 12}
    small = checked(model, traced).train()
    small(images())
    assert small.get_buffer("norm1.running_mean").abs().max() > 0
    assert isinstance(model.norm1, user_networks.NormAct)


def test_frozen_norms_stay_frozen_in_the_graph_form() -> None:
    model = networks.CifarResNet(blocks=1, width=8).train()
    norms = [name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    model.get_submodule(norms[0]).eval()
    traced = make_space(model, images())
    small = slim(model, traced, proof.random_keep(traced.space))
    assert not isinstance(small, networks.CifarResNet)
    assert small.training
    assert [small.get_submodule(name).training for name in norms] == [False] + [True] * 6


def test_parts_written_in_place_are_joined_parts() -> None:
    model = user_networks.WritesParts().eval()
    traced = make_space(model, images())
    assert widths_of(traced) == {"stem": 12, "wide": 8}
    operators = {node.op_type for node in traced.space.model.graph.node}
    assert not operators & {"ScatterND", "Range", "Identity"}
    checked(model, traced)


def test_norms_over_permuted_channels_leave_the_other_widths() -> None:
    model = user_networks.PermutedNorms().eval()
    traced = make_space(model, images())
    assert widths_of(traced) == {"up": 24, "between": 16}
    checked(model, traced)


@pytest.mark.parametrize(
    "model",
    [
        user_networks.ClassToken(),
        user_networks.ClassToken(by_length=True),
        user_networks.SplitClassToken(),
    ],
)
def test_a_token_follows_the_batch(model: nn.Module) -> None:
    model.eval()
    traced = make_space(model, images())
    assert sum(widths_of(traced).values()) == 24
    small = checked(model, traced)
    exported = trace(small, traced.example)
    for batch in (1, 3):
        x = torch.randn(batch, 3, 16, 16)
        wanted = proof.run_torch(small, (x,))
        assert wanted[0].shape == (batch, 5)
        assert comparison.agree(wanted, proof.run_onnx(exported, (x,)))


@pytest.mark.parametrize("norm", [user_networks.FrozenNorm, user_networks.CalledNorm])
@pytest.mark.parametrize("split", [False, True])
def test_any_shift_per_channel_is_a_place_for_a_gate(
    norm: type[user_networks.FrozenNorm], split: bool
) -> None:
    model = user_networks.FrozenBackbone(norm, split=split).eval()
    traced = make_space(model, images())
    assert sum(widths_of(traced).values()) == 8 + 12 + 10
    gates = {gate.module: gate.axis for gate in traced.gates}
    assert gates == {"stem_norm": 1, "norm1": 1, "norm2": 1, "shift": -1}
    checked(model, traced)


def test_what_makes_something_of_zeros_is_named_with_a_cure() -> None:
    traced = make_space(user_networks.ShiftInside().eval(), images())
    assert widths_of(traced) == {"conv3": 10}
    left = traced.space.manifest.unprunable
    assert "with 'shift' in the forward pass of ShiftInside. Move" in left["conv1"]
    assert "Sigmoid 'node_sigmoid'. Use an activation that keeps zeros" in left["conv2"]


def test_products_are_proven_with_weights_that_do_not_overflow() -> None:
    model = user_networks.Products().eval()
    traced = make_space(model, images())
    assert sum(widths_of(traced).values()) == 8 + 8 * 12
    checked(model, traced)


def test_a_network_that_no_draw_suits_says_so() -> None:
    class Exploding(user_networks.Products):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 1e30 * 1e30

    traced = make_space(Exploding(depth=1).eval(), images())
    assert not traced.space.groups
    reason = traced.space.manifest.unprunable["stem"]
    assert "the whole network and its exported graph compute the same" in reason


def test_heads_of_training_mode_become_smaller_with_what_they_read() -> None:
    model = user_networks.AuxiliaryHead().train()
    traced = make_space(model, images())
    assert widths_of(traced) == {"first.0": 8, "second.0": 12}
    assert not any("auxiliary" in t.name for t in traced.space.model.graph.initializer)
    small = checked(model.eval(), traced).train()
    assert isinstance(small, user_networks.AuxiliaryHead)
    main, auxiliary = small(images())
    assert main.shape == auxiliary.shape == (2, 3, 8, 8)
    keep = proof.random_keep(traced.space, seed=3)
    whole = restore(model, traced, keep, small)
    assert whole.get_parameter("auxiliary.0.weight").shape == (6, 8, 3, 3)


def test_the_graph_form_has_both_modes_and_their_outputs() -> None:
    model = user_networks.Detector().eval()
    traced = make_space(model, images())
    assert widths_of(traced) == {"stem.0": 8, "stem.0#2": 8, "inner.0": 8}
    small = checked(model, traced)
    assert not isinstance(small, user_networks.Detector)
    for copied in (small, copy.deepcopy(small)):
        boxes, maps = copied.eval()(images())
        assert boxes.shape == (2, 4, 64)
        assert {name: tuple(x.shape) for name, x in maps.items()} == {
            "near": (2, 4, 8, 8),
            "far": (2, 4, 8, 8),
        }
        found = copied.train()(images())
        assert isinstance(found, list)
        sum(x.square().mean() for x in found).backward()
        assert all(p.grad is not None for p in copied.parameters())
    assert small.state_dict().keys() == model.state_dict().keys()
    assert trace(small, traced.example).graph.output[2].name == "output_2"


def ordered(fine: Tensor, coarse: Tensor) -> Any:
    return OrderedDict(fine=fine, nested=(coarse, {"fine": fine.relu()}))


@pytest.mark.parametrize(
    "form", [ordered, user_networks.Maps, user_networks.Found, user_networks.seen]
)
@pytest.mark.parametrize("more", [False, True])
def test_the_graph_form_keeps_the_types_of_the_outputs(
    form: Callable[[Tensor, Tensor], Any], more: bool
) -> None:
    model = user_networks.Containers(form, more=more).eval()
    traced = make_space(model, images(), minimum=2)
    small = checked(model, traced)
    assert not isinstance(small, user_networks.Containers), "delivered as a graph"
    for network in (small, copy.deepcopy(small)):
        wanted, found = model(images()), network(images())
        assert type(found) is type(wanted)
        if form is ordered:
            assert list(found) == ["fine", "nested"]
            assert found["nested"][1]["fine"].shape == (2, 5, 8, 8)
        else:
            assert found.coarse.shape == wanted.coarse.shape
        training = network.train()(images())
        assert type(training[0] if more else training) is type(wanted)
    assert small.state_dict().keys() == model.state_dict().keys()
