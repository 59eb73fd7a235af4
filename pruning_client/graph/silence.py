"""A network with closed gates: what it computes, and about which width groups that says nothing."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Bools
from latency_service.spaces.plan import Keep
from pruning_client.graph import proof
from pruning_client.graph.chance import in_mode
from pruning_client.graph.comparison import TOLERANCE, Arrays, agree, spreads
from pruning_client.graph.decisions import Decisions
from pruning_client.graph.modules import GatePoint


@dataclass(frozen=True, kw_only=True)
class ClosedTwin:
    """A twin whose gates are closed for all channels outside `keep`.

    One forward pass serves both the comparison with a smaller network and the derivatives that tell
    what the comparison shows.
    """

    twin: proof.Twin
    gates: Sequence[GatePoint]
    keep: Keep
    #: Inputs [B, ...] on the CPU.
    inputs: Sequence[Tensor]

    @property
    def result(self) -> proof.Result:
        """What it computes in eval mode, with the decisions that the graph has."""
        return self._pass.result

    @functools.cached_property
    def silent(self) -> set[int]:
        """Width groups whose open channels are read, but change no output while all others are
        closed: a proof with these channels says nothing about what reads them.

        Few channels behind a ReLU, such as those of a small head, may all be zero for the example.
        Outputs without a derivative, such as labels, count with what they are decided by.
        """
        return {group for group in self._without_derivative() if self._is_hidden(group)}

    @functools.cached_property
    def _masks(self) -> list[Tensor]:
        return [proof.mask_of(gate, self.keep).float() for gate in self.gates]

    @functools.cached_property
    def _pass(self) -> _Pass:
        values = [mask.clone().requires_grad_() for mask in self._masks]
        try:
            with torch.enable_grad():
                leaves, decided = self._forward(values)
        except RuntimeError:
            # the forward pass has no derivative
            return _Pass(values=[], ends=[], result=self._result(self._masks))
        ends = [x for x in [*leaves, *decided] if torch.is_tensor(x) and x.requires_grad]
        result = proof.Result(outputs=proof.arrays(leaves), decided=proof.arrays(decided))
        return _Pass(values=values, ends=ends, result=result)

    def _result(self, values: Sequence[Tensor]) -> proof.Result:
        model = self.twin.model
        with _scaled(model, self.gates, values), in_mode(model, training=False):
            return self.twin.result(self.inputs)

    def _forward(self, values: Sequence[Tensor]) -> tuple[list[Any], list[Tensor]]:
        """Outputs, and what the decisions of the graph are made of, with the outputs of modules
        with gates multiplied by values [P].
        """
        model = self.twin.model
        with (
            _scaled(model, self.gates, values),
            in_mode(model, training=False),
            Decisions() as decisions,
        ):
            outputs = model(*self.inputs)
        leaves, _ = torch.utils._pytree.tree_flatten(outputs)
        return leaves, [decisions.found[place] for place in self.twin.decisions.values()]

    def _without_derivative(self) -> set[int]:
        """Width groups on which the derivative of no output depends, by one pass: the outputs are
        summed with random signs.
        """
        values, ends = self._pass.values, self._pass.ends
        if not ends:
            return set(range(len(self.keep)))
        random = torch.Generator().manual_seed(0)
        signs = [torch.randint(0, 2, y.shape, generator=random) * 2.0 - 1 for y in ends]
        try:
            found = torch.autograd.grad(
                [self._weighted(y, sign) for y, sign in zip(ends, signs, strict=True)],
                values,
                allow_unused=True,
            )
        except RuntimeError:
            return set(range(len(self.keep)))
        largest = np.zeros(len(self.keep))
        for gate, mask, derivative in zip(self.gates, self._masks, found, strict=True):
            if derivative is not None:
                counts: Bools = (gate.group >= 0) & mask.bool().numpy()
                np.maximum.at(largest, gate.group[counts], derivative.abs().numpy()[counts])
        return set(np.flatnonzero(~(largest >= TOLERANCE)).tolist())

    def _weighted(self, y: Tensor, signs: Tensor) -> Tensor:
        """The sum of an output with these signs, each value in units of its scale."""
        with torch.enable_grad():
            return (y * signs / _scale(y, self.twin)).sum()

    def _is_hidden(self, group: int) -> bool:
        """Whether the channels of a group are read, but the network computes the same without any.

        Norms over space undo smaller changes. What is read shows by values that are not numbers,
        which no operator turns into others.
        """
        unknown = self._with_channels(group, math.nan)
        read = not all(np.isfinite(x).all() for x in unknown)
        if not read:
            return False
        before = [*self.result.outputs, *self.result.decided]
        return agree(before, self._with_channels(group, 0.0), fine=self.twin.fine)

    def _with_channels(self, group: int, value: float) -> Arrays:
        """Outputs and decisions where the channels of a group are multiplied by a value."""
        chosen = [torch.from_numpy(gate.group == group) for gate in self.gates]
        pairs = zip(chosen, self._masks, strict=True)
        found = self._result([torch.where(own, value, mask) for own, mask in pairs])
        return [*found.outputs, *found.decided]


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """A forward pass with its history."""

    #: Of each gate [P], the leaves of the history; none where the forward pass has no derivative.
    values: list[Tensor]
    #: Outputs and decisions with a derivative.
    ends: list[Tensor]
    result: proof.Result


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
