from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pruning_client import load
from pruning_client.graph import checkpoint, proof
from pruning_client.graph.errors import SurgeryError
from pruning_client.graph.space import Traced, make_space
from pruning_client.graph.surgery import slim
from tests.support import networks
from tests.support.tiny_networks import tiny_net
from tests.support.traced_models import cifar, residual


@pytest.mark.parametrize("family", [residual, cifar])
def test_compact_checkpoint_loads_into_the_users_class(family: object, tmp_path: Path) -> None:
    model, traced = family()  # type: ignore[operator]
    keep = proof.random_keep(traced.space, seed=2)
    small = slim(model, traced, keep)
    path = checkpoint.save(small, traced, keep, tmp_path / "small.safetensors")
    fresh = copy.deepcopy(model)
    for parameter in fresh.parameters():
        nn.init.normal_(parameter)
    for loaded in (checkpoint.load(fresh, path, traced=traced), checkpoint.load(fresh, path)):
        assert type(loaded).__name__ == type(small).__name__
        found, wanted = (proof.run_torch(m.eval(), traced.example)[0] for m in (loaded, small))
        np.testing.assert_array_equal(found, wanted)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model, traced = residual()
    keep = proof.random_keep(traced.space)
    path = checkpoint.save(slim(model, traced, keep), traced, keep, tmp_path / "small.safetensors")
    with pytest.raises(SurgeryError, match="belongs to another network than this Vgg"):
        checkpoint.load(networks.Vgg(), path, traced=cifar()[1])
    save_file({"x": torch.zeros(1)}, str(tmp_path / "plain.safetensors"))
    with pytest.raises(SurgeryError, match="does not list width groups"):
        checkpoint.load(model, tmp_path / "plain.safetensors", traced=traced)
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(SurgeryError, match="cannot be read"):
        checkpoint.load(model, tmp_path / "junk.safetensors", traced=traced)


@pytest.mark.parametrize("was_deployed", [False, True])
def test_only_a_deploy_hook_leaves_groups_out_of_a_checkpoint(
    tmp_path: Path, *, was_deployed: bool
) -> None:
    model, traced = residual()
    first, *others = traced.space.groups
    keep = [np.arange(first.width), *(np.arange(group.minimum) for group in others)]
    path = checkpoint.save(slim(model, traced, keep), traced, keep, tmp_path / "small.safetensors")
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
    groups = json.loads(metadata["groups"])
    del groups[first.name]
    metadata |= {"groups": json.dumps(groups), "deployed": json.dumps(was_deployed)}
    save_file(tensors, str(path), metadata)
    if was_deployed:
        loaded = checkpoint.load(model, path, traced=traced)
        assert {name: value.shape for name, value in loaded.state_dict().items()} == {
            name: value.shape for name, value in tensors.items()
        }
    else:
        with pytest.raises(SurgeryError, match="belongs to another network"):
            checkpoint.load(model, path, traced=traced)


def test_the_checkpoint_loads_into_the_users_class(traced: Traced, tmp_path: Path) -> None:
    keep = [np.arange(0, 16, 2), np.arange(4, 16)]
    small = slim(tiny_net().eval(), traced, keep)
    checkpoint.save(small, traced, keep, tmp_path / "pruned.safetensors")
    loaded = load(tiny_net(), tmp_path / "pruned.safetensors").eval()
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(loaded(x), small(x))
    assert type(loaded) is type(tiny_net())


class _Conditioned(nn.Module):
    """An image and a class of its own type."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.classes = nn.Embedding(5, 8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        y = self.conv(x).relu() + self.classes(kind)[:, :, None, None]
        return self.fc(self.second(y).relu().mean((2, 3)))


def test_inputs_that_are_whole_numbers_are_traced_as_such(tmp_path: Path) -> None:
    model = _Conditioned().eval()
    traced = make_space(model, (torch.rand(2, 3, 8, 8), torch.tensor([1, 2])), minimum=1)
    keep = proof.random_keep(traced.space)
    small = slim(model, traced, keep)
    path = checkpoint.save(small, traced, keep, tmp_path / "small.safetensors")
    loaded = load(_Conditioned(), path).eval()
    found, wanted = (proof.run_torch(one.eval(), traced.example)[0] for one in (loaded, small))
    np.testing.assert_array_equal(found, wanted)
