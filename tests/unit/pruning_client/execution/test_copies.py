"""Copies of networks that keep something of their forward pass."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from pruning_client.errors import ModelError
from pruning_client.execution.copies import copied


class Keeps(nn.Module):
    """Keeps what it computed, in nested collections."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.last: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        self.last["features"] = [y, (y.relu(),)]
        return y


def masked() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    prune.l1_unstructured(model[0], "weight", 0.5)  # type: ignore[no-untyped-call]
    return model


def weight_normed() -> nn.Module:
    return nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 1)))


@pytest.mark.parametrize("make", [Keeps, masked, weight_normed])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_tensors_with_a_history_are_copied_by_value(make: Any) -> None:
    model = make()
    x = torch.randn(2, 3, 4, 4)
    wanted = model(x)
    twin = copied(model)
    assert type(twin) is type(model)
    assert torch.equal(twin(x), wanted)
    if isinstance(model, Keeps):
        twin.last["features"].clear()
        assert model.last["features"][0] is wanted


def test_hooks_that_keep_features_write_into_the_copy() -> None:
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    model.features, outside = [], []
    model[0].register_forward_hook(lambda *call: model.features.append(call[2]))
    model[1].register_forward_hook(lambda *call: outside.append(call[2]))
    twin: Any = copied(model)
    twin(torch.randn(2, 3, 4, 4))
    assert (len(model.features), len(outside), len(twin.features)) == (0, 0, 1)


def test_a_forward_that_was_replaced_calls_the_layers_of_the_copy() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 4))
    model.forward = lambda x: model[0](x) + 1
    twin = copied(model)
    with torch.no_grad():
        twin[0].weight.zero_()
        twin[0].bias.zero_()
    assert torch.equal(twin(torch.randn(2, 3)), torch.ones(2, 4))


def test_what_cannot_be_copied_is_named() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 4))
    model[0].lock = threading.Lock()
    with pytest.raises(ModelError, match=r"'0.lock' \(lock\) of Sequential cannot be copied"):
        copied(model)


_of_a_script: Any = None


def test_hooks_of_a_script_write_into_the_copy() -> None:
    global _of_a_script
    _of_a_script = nn.Sequential(nn.Conv2d(3, 4, 1))
    _of_a_script.features = []
    _of_a_script[0].register_forward_hook(lambda *call: _of_a_script.features.append(call[2]))
    twin: Any = copied(_of_a_script)
    twin(torch.randn(2, 3, 4, 4))
    assert (len(_of_a_script.features), len(twin.features)) == (0, 1)
