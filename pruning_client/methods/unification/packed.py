"""The packed file of a network with unified weights: signs as bits, one magnitude for each block.

A safetensors file whose metadata are ``unification``, a JSON object of ``format`` and ``blocks``,
which gives rows and columns of a block for every unified weight. (Of several entries safetensors
does not keep the order, and equal networks would have different files.) Its tensors, NAME as in the
state_dict:

* ``zeros/NAME``: bits of the blocks that are zero,
* ``magnitudes/NAME``: absolute values of the other blocks, in the type of the weight,
* ``signs/NAME``: bits of the weights of the other blocks that are negative,
* ``dense/NAME``: every other tensor of the state_dict.

Blocks and weights are in row-major order of the matrix (`Blocks`); bits are packed from the lowest,
the last byte is filled up with zeros. A file comes from anywhere: it is checked against the network
that it is loaded into, which bounds what is allocated, and nothing of it is executed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pruning_client.errors import ModelError, first_line
from pruning_client.methods.unification.blocks import Blocks

FORMAT: Literal["latency-service.unified.1"] = "latency-service.unified.1"
#: Bytes by which a file may exceed the tensors of its network: names and offsets.
_HEADER_BYTES = 16 * 2**20
#: Entry of the file's metadata.
_ENTRY = "unification"
_CURE = "Give the file that `compress` wrote for this network."


class _Description(BaseModel):
    """Metadata of the file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal["latency-service.unified.1"]
    #: Rows and columns of a block by the name of the weight.
    blocks: dict[str, tuple[PositiveInt, PositiveInt]]


class PackedFileError(ModelError):
    """A packed file is damaged, or of another network."""

    code = "invalid_packed_file"


def pack(state: Mapping[str, Tensor], blocks: Mapping[str, Blocks]) -> bytes:
    """Content of the packed file of a state_dict.

    Args:
        blocks: Blocks of the unified weights by name.

    Raises:
        ValueError: A block has several absolute values.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        plain = value.detach().cpu()
        if name in blocks:
            tensors |= _packed(name, plain, blocks[name])
        else:
            tensors[f"dense/{name}"] = plain.clone().contiguous()
    shapes = {name: (entry.rows, entry.columns) for name, entry in blocks.items()}
    description = _Description(format=FORMAT, blocks=shapes)
    return save(tensors, {_ENTRY: description.model_dump_json()})


def _packed(name: str, weight: Tensor, blocks: Blocks) -> dict[str, Tensor]:
    largest = blocks.largest(weight)
    if not torch.equal(blocks.spread(largest), weight.abs()):
        raise ValueError(f"a block of {name!r} has several absolute values")
    is_zero = largest == 0
    stored = ~blocks.spread(is_zero)
    return {
        f"zeros/{name}": _bits(is_zero),
        f"magnitudes/{name}": largest[~is_zero].contiguous(),
        f"signs/{name}": _bits(weight[stored] < 0),
    }


def read_packed(path: Path | str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a packed file, of the shapes and types of a network's state_dict.

    Args:
        state: state_dict of the network, with any values.

    Raises:
        PackedFileError: The file is damaged, too large, or of another network.
    """
    _check_size(Path(path), state)
    metadata, tensors = _read(path)
    if _ENTRY not in metadata:
        raise PackedFileError(f"{path} is no packed file of unified weights.", _CURE)
    blocks = _blocks_of(metadata[_ENTRY], state)
    reader = _Reader(tensors)
    found = {
        name: reader.unified(name, like, blocks[name])
        if name in blocks
        else reader.dense(name, like)
        for name, like in state.items()
    }
    reader.check_all_read()
    return found


def _check_size(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse a file that is larger than one with nothing unified."""
    limit = sum(value.nbytes for value in state.values()) + _HEADER_BYTES
    try:
        size = path.stat().st_size
        is_file = path.is_file()
    except OSError as error:
        raise PackedFileError(f"{path} cannot be read: {error.strerror}.", _CURE) from error
    if not is_file or size > limit:
        raise PackedFileError(
            f"{path} is no file of at most {limit} bytes, which its network needs.", _CURE
        )


def _read(path: Path | str) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise PackedFileError(f"{path} cannot be read: {first_line(error)}.", _CURE) from error
    return metadata, tensors


def _blocks_of(description: str, state: Mapping[str, Tensor]) -> dict[str, Blocks]:
    try:
        found = _Description.model_validate_json(description).blocks
    except ValidationError as error:
        fault = error.errors()[0]
        raise _damaged(f"its description is invalid: {fault['loc']}: {fault['msg']}") from error
    for name in found:
        if name not in state or state[name].dim() < 2 or not state[name].is_floating_point():
            raise _damaged(f"{name!r} is not a weight of this network")
    return {name: Blocks.of(state[name].shape, block) for name, block in found.items()}


class _Reader:
    """Tensors of a file, each of which is read once."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._left = dict(tensors)

    def dense(self, name: str, like: Tensor) -> Tensor:
        """A tensor that is stored as it is."""
        return self._take(f"dense/{name}", tuple(like.shape), like.dtype)

    def unified(self, name: str, like: Tensor, blocks: Blocks) -> Tensor:
        """A weight from zeros, magnitudes and signs."""
        is_zero = self._take_bits(f"zeros/{name}", blocks.count)
        stored = ~blocks.spread(is_zero)
        kept = int((~is_zero).sum())
        magnitudes = self._take(f"magnitudes/{name}", (kept,), like.dtype)
        if not bool((torch.isfinite(magnitudes) & (magnitudes > 0)).all()):
            raise _damaged(f"magnitudes of {name!r} are not positive and finite")
        is_negative = self._take_bits(f"signs/{name}", int(stored.sum()))
        values = torch.zeros(blocks.count, dtype=like.dtype).masked_scatter(~is_zero, magnitudes)
        weight = blocks.spread(values).clone()
        weight[stored] = torch.where(is_negative, -weight[stored], weight[stored])
        return weight

    def check_all_read(self) -> None:
        """Refuse tensors that the network does not have."""
        if self._left:
            raise _damaged(f"it holds {next(iter(self._left))!r}, which the network has not")

    def _take(self, key: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        found = self._left.pop(key, None)
        if found is None:
            raise _damaged(f"{key!r} is missing")
        if tuple(found.shape) != shape or found.dtype != dtype:
            is_wrong = f"{key!r} is {found.dtype} of shape {list(found.shape)}"
            raise _damaged(f"{is_wrong}, not {dtype} of {list(shape)}")
        return found

    def _take_bits(self, key: str, count: int) -> Tensor:
        packed = self._take(key, (math.ceil(count / 8),), torch.uint8)
        bits = np.unpackbits(packed.numpy(), bitorder="little")
        if bits[count:].any():
            raise _damaged(f"{key!r} does not end with zeros")
        return torch.from_numpy(bits[:count].astype(bool))


def _bits(values: Tensor) -> Tensor:
    """Booleans [n] as bytes [ceil(n / 8)]."""
    packed: Any = np.packbits(values.flatten().numpy(), bitorder="little")
    return torch.from_numpy(packed)


def _damaged(fault: str) -> PackedFileError:
    return PackedFileError(f"The packed file is damaged or of another network: {fault}.", _CURE)
