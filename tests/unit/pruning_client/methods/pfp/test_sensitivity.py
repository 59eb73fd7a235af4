"""Sensitivities against their definition, computed weight by weight."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pruning_client.data.sources import as_batches
from pruning_client.graph.space import make_space
from pruning_client.methods.base import Context
from pruning_client.methods.pfp import patches
from pruning_client.methods.pfp.sensitivity import LayerSensitivity, sensitivities
from tests.support import analytic


def brute_force(module: nn.Module, inputs: Tensor) -> np.ndarray:
    """Largest share of each input channel in any pre-activation, by changing one weight at a time:
    the part of the layer's output that a weight gives, divided by the whole.
    """
    weight = module.weight.detach().clone()
    bias = {} if module.bias is None else {"bias": torch.zeros_like(module.bias)}
    if isinstance(module, nn.Linear):
        axis, groups = 1, 1
    else:
        axis, groups = 0 if module.transposed else 1, module.groups
    channels = inputs.shape[-1 if isinstance(module, nn.Linear) else 1]
    largest = np.zeros(channels)

    def run(weights: Tensor, values: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"weight": weights, **bias}, (values,))

    for values, signed in product(
        (inputs.clamp_min(0), (-inputs).clamp_min(0)),
        (weight.clamp_min(0), (-weight).clamp_min(0)),
    ):
        whole = run(signed, values).double()
        for index in np.ndindex(*signed.shape):
            one = torch.zeros_like(signed)
            one[index] = signed[index]
            share = torch.where(whole > 1e-6, run(one, values).double() / whole, 0)
            filters, inside = index[0] if axis else index[1], index[axis]
            if groups > 1:
                inside += filters // (weight.shape[0] // groups) * weight.shape[1]
            largest[inside] = max(largest[inside], float(share.max()))
    return largest


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(3, 4, 3, stride=2, padding=1), (2, 3, 7, 6)),
        (nn.Conv2d(4, 4, 3, padding=1, groups=2, dilation=2, bias=False), (2, 4, 7, 7)),
        (nn.Conv2d(2, 3, 3, padding="same", padding_mode="reflect"), (2, 2, 5, 5)),
        (nn.Conv1d(3, 2, 3, padding=1), (2, 3, 6)),
        (nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), (2, 3, 4, 4)),
        (nn.Linear(6, 5), (3, 6)),
        (nn.Linear(6, 5), (2, 4, 6)),
    ],
    ids=["stride", "groups", "reflect", "1d", "transposed", "linear", "tokens"],
)
def test_sensitivities_are_those_of_their_definition(
    module: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patches, "_AT_ONCE", 200)  # several chunks
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(shape, generator=generator)
    channels = shape[-1] if isinstance(module, nn.Linear) else shape[1]
    taps = patches.weight_matrix(module).shape[-1]
    found = LayerSensitivity(values=torch.zeros(channels), taps=taps)
    found.add(module, inputs)
    np.testing.assert_allclose(found.values.numpy(), brute_force(module, inputs), rtol=1e-4)
    outputs = module(inputs)
    filters = outputs.shape[-1 if isinstance(module, nn.Linear) else 1]
    assert found.patches == outputs.numel() // (len(outputs) * filters)


def test_chunks_are_bounded() -> None:
    """At the size of real images a batch is never unfolded as a whole."""
    layer = nn.Conv2d(8, 4, 3, padding=1)
    found = patches.patches(layer, torch.rand(2, 8, 224, 224))
    sizes = [chunk.numel() for chunk in found.chunks()]
    assert sum(sizes) == 2 * 8 * 9 * 224 * 224
    assert max(sizes) <= patches._AT_ONCE


class Flat(nn.Module):
    """A convolution, and a linear layer that reads each of its channels in 16 places."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.inner = nn.Conv2d(6, 5, 3, padding=1)
        self.fc = nn.Linear(5 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.inner(self.conv(x).relu()).relu().flatten(1))


def test_a_group_has_the_largest_sensitivity_of_its_positions() -> None:
    model = Flat().eval()
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    traced = make_space(model, images[:2], minimum=1)
    context = Context(
        model=model,
        traced=traced,
        train=as_batches((images, torch.arange(6) % 3)),
        predictor=analytic.predictor(traced.space),
        target_ms=1.0,
    )
    found = sensitivities(context, list(context.train.ordered()))
    groups = {p.module: p.group for p in traced.producers}
    with torch.no_grad():
        first = model.conv(images).relu()
        second = model.inner(first).relu().flatten(1)
    expected = brute_force(model.inner, first), brute_force(model.fc, second)
    np.testing.assert_allclose(found.groups[groups["conv"]], expected[0], rtol=1e-4)
    np.testing.assert_allclose(
        found.groups[groups["inner"]], expected[1].reshape(5, 16).max(1), rtol=1e-4
    )
