"""The packed file: round trips, and files that are damaged, malicious or of another network."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from pruning_client.methods.unification import packed
from pruning_client.methods.unification.blocks import Blocks, unified
from pruning_client.methods.unification.packed import PackedFileError, pack, read_packed

SHAPE = (6, 4, 3, 3)
Tensors = dict[str, Tensor]


def network(zeros: float = 0.25, dtype: torch.dtype = torch.float32) -> tuple[Tensors, Any]:
    """A state_dict of one unified weight, and its blocks."""
    weight = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)
    blocks = Blocks.of(SHAPE, (1, 9))
    state = {
        "conv.weight": unified(blocks, weight, zeros)[0],
        "norm.running_mean": torch.arange(6.0),
        "norm.num_batches_tracked": torch.tensor(7),
    }
    return state, {"conv.weight": blocks}


def contents(path: Path) -> tuple[Tensors, dict[str, str]]:
    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "unified.safetensors"
    file.write_bytes(pack(*network()))
    return file


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3)),
    block=st.tuples(st.integers(1, 4), st.integers(1, 9)),
    zeros=st.floats(0, 0.9),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, ...],
    block: tuple[int, int],
    zeros: float,
    dtype: torch.dtype,
) -> None:
    blocks = Blocks.of(shape, block)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    state = {"w": unified(blocks, weight, zeros)[0], "b": torch.ones(3)}
    file = tmp_path_factory.mktemp("packed") / "x.safetensors"
    file.write_bytes(pack(state, {"w": blocks}))
    found = read_packed(file, {"w": torch.zeros(shape, dtype=dtype), "b": torch.zeros(3)})
    assert found.keys() == state.keys()
    for name, value in state.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_the_file_holds_a_bit_for_each_weight_and_a_number_for_each_block(path: Path) -> None:
    tensors, metadata = contents(path)
    assert tensors["zeros/conv.weight"].numel() == 3  # 24 blocks
    assert tensors["magnitudes/conv.weight"].numel() == 18  # a quarter is zero
    assert tensors["signs/conv.weight"].numel() == np.ceil(18 * 9 / 8)
    assert json.loads(metadata["unification"]) == {
        "format": "latency-service.unified.1",
        "blocks": {"conv.weight": [1, 9]},
    }


def test_weights_that_are_not_unified_are_not_packed() -> None:
    state, blocks = network()
    state["conv.weight"][0, 0, 0, 0] *= 1.5
    with pytest.raises(ValueError, match=r"'conv\.weight' has several absolute values"):
        pack(state, blocks)


def changed(name: str, change: Callable[[Tensor], Tensor | None]) -> Callable[..., None]:
    """A change of one tensor of a file; None removes it."""

    def apply(tensors: Tensors, _metadata: dict[str, str]) -> None:
        found = change(tensors.pop(name))
        if found is not None:
            tensors[name] = found

    return apply


def described(blocks: str) -> Callable[..., None]:
    text = f'{{"format": "latency-service.unified.1", "blocks": {blocks}}}'
    return lambda _tensors, metadata: metadata.update(unification=text)


def filled(value: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: torch.full_like(tensor, value)


MAGNITUDES = "magnitudes/conv.weight"
BAD: dict[str, tuple[Callable[..., None], str]] = {
    "another file": (lambda _t, m: m.pop("unification"), "no packed file"),
    "another format": (lambda _t, m: m.update(unification='{"format": "x"}'), "('format',)"),
    "no JSON": (described("{"), "description is invalid"),
    "deep JSON": (described("[" * 10**5), "description is invalid"),
    "no list of blocks": (described("3"), "('blocks',)"),
    "blocks are text": (described('{"conv.weight": ["1", "9"]}'), "'conv.weight'"),
    "blocks are huge": (described('{"conv.weight": [1' + "0" * 5000 + ", 1]}"), "is invalid"),
    "blocks are empty": (described('{"conv.weight": [0, 9]}'), "greater than 0"),
    "blocks are negative": (described('{"conv.weight": [-1, 9]}'), "greater than 0"),
    "other blocks": (described('{"conv.weight": [2, 9]}'), "zeros/conv.weight"),
    "no blocks": (described("{}"), "'dense/conv.weight' is missing"),
    "a layer that is none": (described('{"fc.weight": [1, 9]}'), "not a weight"),
    "a vector": (described('{"norm.running_mean": [1, 2]}'), "not a weight"),
    "no zeros": (changed("zeros/conv.weight", lambda _: None), "is missing"),
    "zeros of another type": (changed("zeros/conv.weight", lambda x: x.float()), "float32"),
    "more zeros than magnitudes": (changed("zeros/conv.weight", filled(255)), MAGNITUDES),
    "too many magnitudes": (changed(MAGNITUDES, lambda x: x.repeat(2)), MAGNITUDES),
    "magnitudes of another type": (changed(MAGNITUDES, lambda x: x.double()), MAGNITUDES),
    "a magnitude that is no number": (changed(MAGNITUDES, filled(float("nan"))), "finite"),
    "an infinite magnitude": (changed(MAGNITUDES, filled(float("inf"))), "finite"),
    "a negative magnitude": (changed(MAGNITUDES, filled(-1.0)), "positive"),
    "too few signs": (changed("signs/conv.weight", lambda x: x[1:]), "signs/conv.weight"),
    "bits after the last": (changed("signs/conv.weight", filled(255)), "end with zeros"),
    "another shape": (changed("dense/norm.running_mean", lambda x: x[1:]), "norm.running_mean"),
    "a tensor too many": (lambda t, _m: t.update(more=torch.zeros(1)), "holds 'more'"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_files_are_refused(fault: str, path: Path) -> None:
    change, said = BAD[fault]
    tensors, metadata = contents(path)
    change(tensors, metadata)
    path.write_bytes(save(tensors, metadata))
    with pytest.raises(PackedFileError) as caught:
        read_packed(path, network()[0])
    assert said in caught.value.message
    assert "compress" in caught.value.cure


def test_a_file_that_is_cut_off_anywhere_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for size in [*range(0, 64, 7), *range(64, len(whole), 61), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(PackedFileError):
            read_packed(path, network()[0])


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_gives_weights_of_the_network(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    state, blocks = network()
    content = bytearray(pack(state, blocks))
    content[at % len(content)] = value
    file = tmp_path_factory.mktemp("changed") / "x.safetensors"
    file.write_bytes(content)
    try:
        found = read_packed(file, state)
    except PackedFileError:
        return
    assert {name: (v.shape, v.dtype) for name, v in found.items()} == {
        name: (v.shape, v.dtype) for name, v in state.items()
    }


def test_a_pickle_is_not_opened(path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os._exit, (1,)

    torch.save({"x": Attack()}, path)
    with pytest.raises(PackedFileError, match="cannot be read"):
        read_packed(path, network()[0])


def test_a_file_larger_than_its_network_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "_HEADER_BYTES", 1000)
    read_packed(path, network()[0])
    with path.open("r+b") as file:
        file.truncate(10**10)
    with pytest.raises(PackedFileError, match="no file of at most"):
        read_packed(path, network()[0])


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", tmp_path / "missing"):
        with pytest.raises(PackedFileError):
            read_packed(place, network()[0])


def test_a_file_of_another_network(path: Path) -> None:
    other = {**network()[0], "conv.weight": torch.zeros(6, 4, 5, 5)}
    with pytest.raises(PackedFileError, match="of another network"):
        read_packed(path, other)
