"""Width groups about which a comparison of outputs says nothing."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.spaces.plan import Keep
from pruning_client.graph import proof
from pruning_client.graph.comparison import TOLERANCE, agree, spreads
from pruning_client.graph.decisions import Decisions
from pruning_client.graph.modules import GatePoint


def silent_groups(
    twin: proof.Twin, gates: Sequence[GatePoint], keep: Keep, inputs: Sequence[Tensor]
) -> set[int]:
    """Width groups whose open channels are read, but change no output while all others are closed:
    a proof with these channels says nothing about what reads them.

    Few channels behind a ReLU, such as those of a small head, may all be zero for the example.
    Outputs without a derivative, such as labels, count with what they are decided by.
    """
    silent = _without_derivative(twin, gates, keep, inputs)
    return {group for group in silent if _is_hidden(group, twin, gates, keep, inputs)}


def _without_derivative(
    twin: proof.Twin, gates: Sequence[GatePoint], keep: Keep, inputs: Sequence[Tensor]
) -> set[int]:
    """Width groups on which the derivative of no output depends, by one pass: the outputs are
    summed with random signs.
    """
    masks = [proof.mask_of(gate, keep) for gate in gates]
    values = [mask.float().requires_grad_() for mask in masks]
    random = torch.Generator().manual_seed(0)
    try:
        with _scaled(twin.model, gates, values), torch.enable_grad(), Decisions() as decisions:
            outputs = twin.model(*inputs)
        leaves, _ = torch.utils._pytree.tree_flatten(outputs)
        leaves += [decisions.found[place] for place in twin.decisions.values()]
        total = torch.zeros(())
        for y in leaves:
            if torch.is_tensor(y) and y.requires_grad:
                signs = torch.randint(0, 2, y.shape, generator=random) * 2.0 - 1
                total = total + (y * signs / _scale(y, twin)).sum()
        found = torch.autograd.grad(total, values, allow_unused=True)
    except RuntimeError:
        # the forward pass has no derivative
        return set(range(len(keep)))
    largest = np.zeros(len(keep))
    for gate, mask, derivative in zip(gates, masks, found, strict=True):
        if derivative is not None:
            counts = (gate.group >= 0) & mask.numpy()
            np.maximum.at(largest, gate.group[counts], derivative.abs().numpy()[counts])
    return set(np.flatnonzero(~(largest >= TOLERANCE)).tolist())


def _is_hidden(
    group: int,
    twin: proof.Twin,
    gates: Sequence[GatePoint],
    keep: Keep,
    inputs: Sequence[Tensor],
) -> bool:
    """Whether the channels of a group are read, but the network computes the same without any.

    Norms over space undo smaller changes. What is read shows by values that are not numbers, which
    no operator turns into others.
    """
    masks = [proof.mask_of(gate, keep).float() for gate in gates]
    chosen = [torch.from_numpy(gate.group == group) for gate in gates]
    found = []
    for value in (None, 0.0, math.nan):
        values = [
            mask if value is None else torch.where(own, value, mask)
            for own, mask in zip(chosen, masks, strict=True)
        ]
        with _scaled(twin.model, gates, values):
            result = twin.result(inputs)
        found.append([*result.outputs, *result.decided])
    before, closed, unknown = found
    read = not all(np.isfinite(x).all() for x in unknown)
    return read and agree(before, closed, fine=twin.fine)


def _scaled(
    model: nn.Module, gates: Sequence[GatePoint], values: Sequence[Tensor]
) -> contextlib.AbstractContextManager[None]:
    """Multiply the outputs of modules with gates by values [P] while the block runs."""
    return proof.hooked(
        (model.get_submodule(gate.module), proof.multiplier(value, gate.axis))
        for gate, value in zip(gates, values, strict=True)
    )


def _scale(y: Tensor, twin: proof.Twin) -> Tensor | float:
    """What a change of each value of an output is compared with."""
    given = y.detach()
    if twin.fine:
        return torch.from_numpy(spreads(given.numpy()))
    return max(1.0, float(given.abs().max()))
