"""Physical removal: a copy of the model whose tensors are smaller, and compact checkpoints of
it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from latency_service.core.arrays import Ints
from pruning_client.graph import proof
from pruning_client.graph.errors import SurgeryError
from pruning_client.graph.removal import find_form
from pruning_client.graph.space import make_space
from pruning_client.graph.traced import Traced

__all__ = ["SurgeryError", "load_slim", "save_slim", "slim"]

Keep = Sequence[Ints]
_FORMAT = "latency-service.slim.1"


def slim(model: nn.Module, traced: Traced, keep: Keep) -> nn.Module:
    """A copy of the model without the channels that are not kept, on the same device and in the
    same mode.

    It is of the model's own class, unless its forward pass holds channel counts as numbers: then it
    is a `torch.fx.GraphModule` of the traced graph with the same state_dict names, and without
    dropout.

    Args:
        model: the model that was traced, or one of the same structure with other weights.
        keep: for each width group the channels to keep, ascending [G][width].

    Raises:
        WidthsError: `keep` does not fit the space's groups.
        SurgeryError: no form of the smaller model computes what the search space says.
    """
    form = find_form(proof.redrawn(model), traced, keep)
    if isinstance(form, str):
        raise SurgeryError(
            f"{type(model).__name__} cannot be made smaller: {form}.",
            "If it is not the model that was traced, trace it with make_space and use what "
            "that returns.",
        )
    return form(model, traced, keep)


def save_slim(small: nn.Module, traced: Traced, keep: Keep, path: Path | str) -> Path:
    """Write a compact checkpoint: the tensors of a slimmed model and which channels they are, no
    code.

    Args:
        small: what `slim(model, traced, keep)` returned, trained further or not.
    """
    groups = {
        group.name: [group.width, np.asarray(k).tolist()]
        for group, k in zip(traced.space.groups, keep, strict=True)
    }
    inputs = [list(x.shape[1:]) for x in traced.example]
    metadata = {"format": _FORMAT, "groups": json.dumps(groups), "inputs": json.dumps(inputs)}
    tensors = {
        name: value.detach().cpu().clone().contiguous()
        for name, value in small.state_dict().items()
    }
    save_file(tensors, str(path), metadata)
    return Path(path)


def load_slim(model: nn.Module, path: Path | str, *, traced: Traced | None = None) -> nn.Module:
    """The slimmed model of a compact checkpoint, made from the user's own model.

    Args:
        model: the full-size network, with any weights.
        traced: what `make_space` gives for it; made anew when absent.

    Raises:
        SurgeryError: the file is no compact checkpoint, or belongs to another network.
    """
    metadata, tensors = _read(path)
    groups = json.loads(metadata["groups"])
    if traced is None:
        traced = make_space(
            model, tuple(torch.zeros(2, *shape) for shape in json.loads(metadata["inputs"]))
        )
    if {group.name: group.width for group in traced.space.groups} != {
        name: entry[0] for name, entry in groups.items()
    }:
        raise SurgeryError(
            f"{path} belongs to another network than this {type(model).__name__}.",
            f"Give the model that it was pruned from: its width groups are {', '.join(groups)}.",
        )
    keep = [np.array(groups[group.name][1], np.int64) for group in traced.space.groups]
    small = slim(model, traced, keep)
    small.load_state_dict(tensors)
    return small


def _read(path: Path | str) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 not a dict
    except Exception as error:
        raise SurgeryError(
            f"{path} cannot be read: {error}.", "Give a file that save_slim wrote."
        ) from error
    if metadata.get("format") != _FORMAT:
        raise SurgeryError(
            f"{path} says nothing about width groups.", "Give a file that save_slim wrote."
        )
    return metadata, tensors
