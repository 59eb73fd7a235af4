from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pruning_client import load
from pruning_client.errors import ModelError
from pruning_client.graph.space import Traced
from pruning_client.graph.surgery import save_slim, slim
from pruning_client.pipeline.artifacts import load_model, restore, versions
from tests.support.tiny_networks import tiny_net

KEEP = [np.arange(0, 16, 2), np.arange(4, 16)]


def test_restored_weights_slim_to_the_same_network(traced: Traced) -> None:
    dense = tiny_net().eval()
    small = slim(dense, traced, KEEP)
    with torch.no_grad():
        for value in small.parameters():
            value.add_(0.1 * torch.randn_like(value))
    small.bn.running_mean += 0.5  # type: ignore[operator,union-attr]
    again = slim(restore(dense, traced, KEEP, small), traced, KEEP)
    assert small.state_dict().keys() == again.state_dict().keys()
    assert all(
        torch.equal(value, again.state_dict()[name]) for name, value in small.state_dict().items()
    )


def test_the_checkpoint_loads_into_the_users_class(traced: Traced, tmp_path: Path) -> None:
    small = slim(tiny_net().eval(), traced, KEEP)
    save_slim(small, traced, KEEP, tmp_path / "pruned.safetensors")
    loaded = load(tiny_net(), tmp_path / "pruned.safetensors").eval()
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(loaded(x), small(x))
    assert type(loaded) is type(tiny_net())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_nets.py").write_text(
        textwrap.dedent(
            """
            from tests.support.tiny_networks import TinyNet as Net

            def small():
                return Net(8)

            def nothing():
                return 7

            def broken():
                raise RuntimeError("no weights here")
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_by_name(package: Path) -> None:
    assert load_model("my_nets:small").conv.out_channels == 8  # type: ignore[union-attr]
    weights = {
        name: torch.full_like(v, 2) for name, v in load_model("my_nets:small").state_dict().items()
    }
    save_file(weights, package / "w.safetensors")
    model = load_model("my_nets:small", package / "w.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("reference", "cause"),
    [
        ("my_nets", "names no function"),
        ("no_such_package.nets:net", "No module named"),
        ("my_nets:absent", "has no attribute 'absent'"),
        ("my_nets:nothing", "returned int"),
        ("my_nets:broken", "no weights here"),
    ],
)
def test_models_that_cannot_be_made(package: Path, reference: str, cause: str) -> None:
    with pytest.raises(ModelError, match=cause) as caught:
        load_model(reference)
    assert caught.value.exit_code == 6
    assert caught.value.cure


def test_weights_that_do_not_fit(package: Path) -> None:
    save_file(tiny_net().state_dict(), package / "w.safetensors")
    with pytest.raises(ModelError, match=r"cannot be loaded: .*size mismatch"):
        load_model("my_nets:small", package / "w.safetensors")
    (package / "torn.safetensors").write_bytes(b"\x01")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model("my_nets:small", package / "torn.safetensors")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model("my_nets:small", package / "absent.safetensors")


def test_versions_name_what_decides_the_result() -> None:
    assert {"torch", "onnx", "onnxruntime", "python"} <= versions().keys()
