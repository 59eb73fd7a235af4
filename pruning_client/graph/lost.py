"""What the training mode of a network does that a graph of it does not."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from pruning_client.errors import first_line
from pruning_client.execution.copies import copied
from pruning_client.graph import comparison, proof
from pruning_client.graph.chance import Draws, WithoutDropout
from pruning_client.graph.failures import named
from pruning_client.graph.modes import entered_modules, structure_of
from pruning_client.graph.traced import Traced


def lost_in_graph(model: nn.Module, traced: Traced) -> list[str]:
    """What a graph of the network leaves out when it is trained, each with its module."""
    twin = copied(model).cpu()
    try:
        lost = [*_side_effects(twin.train(), traced.example)]
        if traced.training is None and _differs_in_training(twin, traced.example):
            lost.append("what else it computes in training mode")
    except Exception as error:  # noqa: BLE001 training mode may need targets, which only the user has
        return [f"its training mode, which fails on the example: {first_line(error)}"]
    return lost


def _side_effects(model: nn.Module, inputs: tuple[Tensor, ...]) -> Iterator[str]:
    """Random numbers and buffers of a forward pass in training mode."""
    drawn: dict[str, str] = {}
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    states = _states()
    with (
        entered_modules(model) as entered,
        torch.no_grad(),
        Draws(lambda what: drawn.update({entered[-1]: what})),
    ):
        model(*inputs)
    for name, what in drawn.items():
        yield f"the random numbers of {named(model, name)} ({what})"
    if not drawn and states != _states():
        yield "its random numbers"
    for name, buffer in model.named_buffers():
        path, _, leaf = name.rpartition(".")
        norm = isinstance(model.get_submodule(path), nn.modules.batchnorm._NormBase)
        if not norm and not torch.equal(buffer, before.get(name, buffer)):
            yield f"the updates of the buffer {leaf!r} of {named(model, path)}"


def _states() -> tuple[bytes, object, str]:
    """States of the generators that a forward pass may draw from."""
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), str(np.random.get_state())


def _differs_in_training(model: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    found = []
    for training in (False, True):
        for module in model.modules():
            module.training = training and not isinstance(module, nn.modules.batchnorm._NormBase)
        with torch.no_grad(), WithoutDropout():
            outputs = model(*inputs)
        found.append((structure_of(outputs), proof.arrays(outputs)))
    (structure, wanted), (other, given) = found
    return structure != other or not comparison.agree(wanted, given, fine=True)
