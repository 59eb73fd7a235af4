"""``pruning-client space``: the file that a campaign needs, from a model."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_model

from pruning_client.graph.space import SearchSpace
from tests.support.outcomes import Run
from tests.support.tiny_networks import TinyNet, tiny_net

MODEL = ("space", "--model", "tests.support.tiny_networks:tiny_net")
SHAPE = ("--input-shape", "1,8,8")


def test_the_file_is_the_space_of_the_model(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "a new folder" / "network.space"
    outcome = run(*MODEL, *SHAPE, "--out", out)
    assert outcome.code == 0, outcome.err
    made = SearchSpace.from_model(tiny_net(), (1, 8, 8))
    assert SearchSpace.load(out).data == made.data
    assert outcome.out.splitlines()[0] == f"file\t{out}"
    for group in made.groups:
        assert f"{group.name}\t{group.width}\t{', '.join(group.members)}" in outcome.out
    assert f"campaigns create --space {out}" in outcome.err


def test_weights_are_read_and_stay_here(run: Run, tmp_path: Path) -> None:
    model = tiny_net()
    weights = tmp_path / "net.safetensors"
    save_model(model, str(weights))
    out = tmp_path / "network.space"
    assert run(*MODEL, *SHAPE, "--weights", weights, "--out", out).code == 0
    assert out.read_bytes() == SearchSpace.from_model(model, (1, 8, 8)).data
    content = model.conv.weight.detach().numpy().tobytes()
    assert content[:64] in weights.read_bytes()
    assert content[:64] not in out.read_bytes()


def broken(path: Path) -> None:
    path.write_bytes(b"not safetensors")


def of_another_network(path: Path) -> None:
    save_model(TinyNet(channels=8), str(path))


def missing(_path: Path) -> None:
    """No file at all."""


@pytest.mark.parametrize("make", [broken, of_another_network, missing])
def test_a_bad_weights_file_is_invalid_input(run: Run, tmp_path: Path, make: object) -> None:
    weights = tmp_path / "net.safetensors"
    make(weights)  # type: ignore[operator]
    out = tmp_path / "network.space"
    outcome = run(*MODEL, *SHAPE, "--weights", weights, "--out", out)
    assert (outcome.code, outcome.out) == (6, "")
    assert f"The weights {weights} cannot be loaded" in outcome.err
    assert "Give the safetensors file of this model's state_dict." in outcome.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--model", "nowhere:net", *SHAPE), 6, "No module named 'nowhere'"),
        (("--model", "tiny_net", *SHAPE), 6, "package.module:function"),
        (("--model", "builtins:dict", *SHAPE), 6, "returned dict"),
        ((*MODEL[1:], "--input-shape", "1x8x8"), 2, "comma-separated list of integers"),
        ((*MODEL[1:], "--input-shape", "3,8,8"), 6, "in module 'conv'"),
        ((*MODEL[1:], *SHAPE, "--out", "/proc/network.space"), 2, "/proc/network.space cannot be"),
    ],
)
def test_errors(
    run: Run,
    options: tuple[str, ...],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("space", *options)
    assert outcome.code == code, outcome.err
    assert said in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_the_space_of_a_fused_network(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "network.space"
    module = "tests.support.reparameterised"
    given = ("space", "--model", f"{module}:RepVgg", "--input-shape", "3,16,16", "--out", out)
    outcome = run(*given, "--deploy", f"{module}:fuse")
    assert outcome.code == 0, outcome.err
    operators = [node.op_type for node in SearchSpace.load(out).model.graph.node]
    assert operators.count("Conv") == 5
    assert "BatchNormalization" not in operators
    outcome = run(*given, "--deploy", f"{module}:__name__")
    assert outcome.code == 2
    assert "is no function but str" in outcome.err
    outcome = run(*given, "--deploy", f"{module}:missing")
    assert outcome.code == 6
    assert "cannot be imported" in outcome.err
