"""Compact checkpoints: the tensors of a slimmed network and the channels kept, without code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from latency_service.spaces.plan import Keep
from pruning_client.graph.errors import SurgeryError
from pruning_client.graph.given import given_network
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim
from pruning_client.graph.traced import Traced

_FORMAT = "latency-service.slim.2"


def save(small: nn.Module, traced: Traced, keep: Keep, path: Path | str) -> Path:
    """Write a compact checkpoint.

    Args:
        small: Result of `slim(model, traced, keep)`, possibly trained further.
        keep: Channels kept in each width group [G][width].
    """
    groups = {
        group.name: [group.width, np.asarray(channels).tolist()]
        for group, channels in zip(traced.space.groups, keep, strict=True)
    }
    inputs = [[str(x.dtype).removeprefix("torch."), *x.shape[1:]] for x in traced.example]
    metadata = {
        "format": _FORMAT,
        "groups": json.dumps(groups),
        "inputs": json.dumps(inputs),
        "deployed": json.dumps(traced.deployed is not None),
    }
    tensors = {
        name: value.detach().cpu().clone().contiguous()
        for name, value in small.state_dict().items()
    }
    save_file(tensors, str(path), metadata)
    return Path(path)


def load(model: nn.Module, path: Path | str, *, traced: Traced | None = None) -> nn.Module:
    """Load the pruned network of ``pruned.safetensors`` into a slimmed copy of the dense model.

    Args:
        model: Dense network, with any weights.
        traced: Result of `make_space` for the model; computed if it is not given.

    Raises:
        ModelError: What is given is no network that can be pruned.
        SurgeryError: The file is not a compact checkpoint, or belongs to another network.
    """
    model = given_network(model)
    metadata, tensors = _read(path)
    groups = json.loads(metadata["groups"])
    if traced is None:
        traced = make_space(model, _inputs(json.loads(metadata["inputs"])))
    if json.loads(metadata["deployed"]):
        # the hook may have left groups at full width, which are not in the file
        whole = {g.name: [g.width, list(range(g.width))] for g in traced.space.groups}
        groups = whole | groups
    _check_groups(groups, traced, f"{path} belongs to another network than this", model)
    keep = [np.array(groups[group.name][1], np.int64) for group in traced.space.groups]
    small = slim(model, traced, keep)
    small.load_state_dict(tensors)
    return small


def _inputs(known: list[list[Any]]) -> tuple[Tensor, ...]:
    """Zeros [2, ...] of the types and shapes that a file lists."""
    return tuple(torch.zeros(2, *shape, dtype=getattr(torch, kind)) for kind, *shape in known)


def _check_groups(groups: dict[str, Any], traced: Traced, fault: str, model: nn.Module) -> None:
    found = {group.name: group.width for group in traced.space.groups}
    if found != {name: width for name, (width, _) in groups.items()}:
        raise SurgeryError(
            f"{fault} {type(model).__name__}.",
            f"Give the model that it was pruned from: its width groups are {', '.join(groups)}.",
        )


def _read(path: Path | str) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
    except Exception as error:
        raise SurgeryError(
            f"{path} cannot be read: {error}.", "Give the pruned.safetensors of a pruning job."
        ) from error
    if metadata.get("format") != _FORMAT:
        raise SurgeryError(
            f"{path} does not list width groups.", "Give the pruned.safetensors of a pruning job."
        )
    return metadata, tensors
