from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pruning_client.data.models import load_model
from pruning_client.errors import ModelError
from tests.support.tiny_networks import tiny_net


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
        ("my_nets", "does not name a function"),
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
