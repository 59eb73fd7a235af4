"""Fake quantisation: the rounding of the file, and nothing of it left afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from pruning_client.errors import ModelError
from pruning_client.training.fake_quantisation import check_layers, fake_quantisation

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))


def weight(model: nn.Sequential, layer: int) -> Tensor:
    found = model[layer].weight
    assert isinstance(found, Tensor)
    return found


def test_weights_are_rounded_to_127_steps_of_their_channel(model: nn.Sequential) -> None:
    weight(model, 0).data[0] *= 1000
    largest = weight(model, 0).detach().flatten(1).abs().amax(1)[:, None, None, None]
    with fake_quantisation(model.train(), symmetric=False):
        model(IMAGES)
        steps = weight(model, 0) / largest * 127
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert len(steps[1].unique()) > 10


def test_afterwards_the_network_is_as_before(model: nn.Sequential) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exact = model.eval()(IMAGES)
    model.train()
    with fake_quantisation(model, symmetric=False):
        model(IMAGES)
        assert not torch.equal(model.eval()(IMAGES), exact)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert torch.equal(after["0.weight"], before["0.weight"])
    assert torch.equal(after["3.weight"], before["3.weight"])
    assert not list(model[0].children())


def test_it_is_removed_after_an_error_too(model: nn.Sequential) -> None:
    names = list(model.state_dict())
    with pytest.raises(ZeroDivisionError), fake_quantisation(model, symmetric=True):
        raise ZeroDivisionError
    assert sorted(model.state_dict()) == sorted(names)


def test_gradients_reach_the_weights(model: nn.Sequential) -> None:
    with fake_quantisation(model.train(), symmetric=False):
        model(IMAGES).square().mean().backward()
        gradients = [p.grad for p in model.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients[2:])


def test_a_layer_left_in_float_is_not_rounded(model: nn.Sequential) -> None:
    exact = weight(model, 0).clone()
    with fake_quantisation(model.train(), symmetric=False, float_layers=("0",)):
        model(IMAGES)
        assert torch.equal(weight(model, 0), exact)
        assert not torch.equal(weight(model, 3), model[3].parametrizations.weight.original)


@pytest.mark.parametrize(("symmetric", "zero_point"), [(True, 0), (False, 128)])
def test_inputs_are_rounded_as_the_target_takes_them(
    model: nn.Sequential, symmetric: bool, zero_point: int
) -> None:
    with fake_quantisation(model.train(), symmetric=symmetric):
        model(2 * IMAGES - 1)
        rounding = model[0].fake_quantised_input
        assert rounding.zero_point.item() == pytest.approx(zero_point, abs=2 * (not symmetric))


def test_ranges_follow_training_images_only(model: nn.Sequential) -> None:
    with fake_quantisation(model.train(), symmetric=False):
        model(IMAGES)
        scale = model[0].fake_quantised_input.scale.clone()
        model.eval()(100 * IMAGES)
        assert torch.equal(model[0].fake_quantised_input.scale, scale)


@pytest.mark.parametrize("kind", ["parametrized", "hooked", "masked"])
def test_computed_weights_are_refused_before_anything_is_trained(
    kind: str, model: nn.Sequential
) -> None:
    check_layers(model)
    change: dict[str, Callable[[nn.Module], object]] = {
        "parametrized": nn.utils.parametrizations.spectral_norm,
        "hooked": nn.utils.spectral_norm,
        "masked": lambda layer: prune.random_unstructured(layer, "weight", 0.5),
    }
    change[kind](model[3])
    with pytest.raises(ModelError, match="The weight of '3' is computed"):
        check_layers(model)
