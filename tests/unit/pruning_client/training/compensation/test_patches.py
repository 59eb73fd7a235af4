"""Layers as linear functions of patches: the same outputs as torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning_client.training.compensation.patches import (
    PatchLayer,
    channel_counts,
    place_count,
)

#: Layers, and inputs for three images.
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (3, 4, 9, 7)),
    "dilated": (nn.Conv2d(4, 6, (3, 2), dilation=(2, 1), padding=(2, 0), bias=False), (3, 4, 9, 7)),
    "same, reflected": (
        nn.Conv2d(4, 6, 3, padding="same", padding_mode="reflect"),
        (3, 4, 9, 7),
    ),
    "grouped": (nn.Conv2d(8, 12, 3, groups=4), (3, 8, 9, 7)),
    "depthwise": (nn.Conv2d(6, 6, 3, groups=6, padding=1), (3, 6, 9, 7)),
    "1-D": (nn.Conv1d(4, 6, 5, stride=3), (3, 4, 20)),
    "3-D": (nn.Conv3d(2, 3, (3, 2, 1), padding=(1, 0, 0)), (3, 2, 5, 4, 3)),
    "transposed": (
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, dilation=(1, 2)),
        (3, 4, 5, 4),
    ),
    "transposed, grouped": (nn.ConvTranspose1d(4, 6, 3, stride=2, groups=2), (3, 4, 8)),
    "linear": (nn.Linear(5, 7), (3, 5)),
    "linear over positions": (nn.Linear(5, 7, bias=False), (3, 4, 2, 5)),
}


@pytest.fixture(params=sorted(LAYERS))
def case(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    module, shape = LAYERS[request.param]
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module, torch.randn(shape)


def some_places(module: nn.Module, output: Tensor) -> Tensor:
    return torch.randint(place_count(module, output), (len(output), 5))


@torch.no_grad()
def test_a_layer_computes_what_its_patches_give(case: Any) -> None:
    module, x = case
    output = module(x)
    places = some_places(module, output)
    layer = PatchLayer.whole(module)
    found = layer.patches(x, tuple(output.shape), places) @ layer.matrix()
    wanted = layer.outputs(output, places)
    torch.testing.assert_close(found + layer.constants()[:, None], wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_only_the_kept_part_changes(case: Any) -> None:
    """As much as the change says, at the kept outputs, from the kept inputs."""
    module, x = case
    groups = int(getattr(module, "groups", 1))
    inputs, outputs = (torch.ones(count, dtype=torch.bool) for count in channel_counts(module))
    inputs[: len(inputs) // groups if groups > 1 else 1] = False
    outputs[: len(outputs) // groups] = False
    channels = 1 if module.__class__.__name__.startswith("Conv") else -1
    zeros = torch.where(inputs, 1.0, 0.0)
    shape = [1] * x.dim()
    shape[channels] = -1
    x = x * zeros.view(shape)
    layer = PatchLayer(module, inputs, outputs)
    before = module(x)
    places = some_places(module, before)
    patches = layer.patches(x, tuple(before.shape), places)
    change = torch.randn_like(layer.matrix())
    layer.add(change)
    after = module(x)
    gone = (after - before).movedim(channels, 0)
    assert gone[~outputs].abs().max() == 0
    torch.testing.assert_close(
        layer.outputs(after - before, places), patches @ change, rtol=1e-4, atol=1e-4
    )
    layer.add(-change)
    torch.testing.assert_close(module(x), before, rtol=1e-4, atol=1e-4)


def test_nothing_is_left_of_a_layer_without_inputs() -> None:
    module = nn.Conv2d(2, 3, 1)
    assert PatchLayer(module, torch.zeros(2) > 0, torch.ones(3) > 0).is_empty
