"""The scaling stage: a frozen network in which real features compete with their knockoffs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils import _pytree as pytree

from latency_service.core.arrays import Ints
from pruning_client.errors import UsageError
from pruning_client.execution import distributed
from pruning_client.execution.copies import copied
from pruning_client.execution.journal import Tensors
from pruning_client.graph.space import GatePoint, Traced
from pruning_client.methods.base import Context, Problem
from pruning_client.methods.scop.knockoffs import Inputs, Knockoffs, joined
from pruning_client.training.batch_norm import train_mode
from pruning_client.training.callback import Callback
from pruning_client.training.config import Training
from pruning_client.training.outputs import output_distance
from pruning_client.training.phase import Phase
from pruning_client.training.trainer import History, Trainer, device_of

_START = 0.5
_BETAS = (0.5, 0.9)
_PHASE = "scale"
_CHECKPOINT = "knockoff-scaling"
#: Multiplier of the seed in the order of the images.
_ORDER = 4057


@dataclass(frozen=True, kw_only=True)
class SelectionLayer:
    """Place where each channel's real feature is mixed with its knockoff."""

    point: GatePoint
    #: Width group of each beta [N].
    group: Ints
    #: Channel of each beta in its group [N].
    channel: Ints
    #: Index of the beta of each position of the axis [P]; N for positions that stay real.
    index: Ints

    @classmethod
    def at(cls, point: GatePoint) -> Self:
        """A layer with one beta for each channel at a gate point."""
        known = np.flatnonzero(point.group >= 0)
        pairs = np.stack([point.group[known], point.channel[known]])
        unique, inverse = np.unique(pairs, axis=1, return_inverse=True)
        index = np.full(len(point.group), unique.shape[1])
        index[known] = inverse.reshape(-1)
        return cls(point=point, group=unique[0], channel=unique[1], index=index)


class _Wanted:
    """What the dense network answers to the last inputs, where it is imitated; copies of a network
    share it with the loss.
    """

    outputs: Any = None

    def __deepcopy__(self, _memo: dict[int, Any]) -> _Wanted:
        return self


class ControlledNetwork(nn.Module):
    """A copy of a network that is given real inputs and computes their knockoffs beside them.

    At every selection layer a real feature becomes beta times itself plus (1 - beta) times its
    knockoff; knockoff features stay as they are. Only the betas are parameters; the copy is not
    part of this module, so that nothing trains or saves it. In training mode batch norms that are
    not frozen use the statistics of the joint batch, as in the public code.

    Attributes:
        betas: Beta of each channel of each selection layer, from 0 to 1.
        steps: Number of training steps taken, which decides the random numbers of the next.
    """

    def __init__(
        self,
        model: nn.Module,
        traced: Traced,
        knockoffs: Knockoffs,
        seed: int,
        *,
        imitates: bool = False,
    ) -> None:
        super().__init__()
        network = copied(model).requires_grad_(False)
        # tuples hide the networks from torch
        self._hidden = (network,)
        self._imitated = (copied(network).eval(),) if imitates else ()
        self.wanted = _Wanted()
        self._knockoffs = knockoffs
        self._seed = seed
        self.steps = 0
        #: Number of passes of this step: one for each piece of its batch.
        self._passes = 0
        self.layers = [SelectionLayer.at(point) for point in traced.gates]
        device = device_of(model)
        self.betas = nn.ParameterList(
            torch.full((len(layer.group),), _START, device=device) for layer in self.layers
        )
        self._indices = [torch.as_tensor(layer.index, device=device) for layer in self.layers]

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the copy too; frozen batch norms stay in eval mode."""
        super().train(mode)
        (network,) = self._hidden
        if mode:
            train_mode(network)
        else:
            network.eval()
        return self

    def forward(self, *inputs: Tensor) -> Any:
        """Outputs for the real inputs, in the network's own structure."""
        (network,) = self._hidden
        for imitated in self._imitated:
            with torch.no_grad():
                self.wanted.outputs = imitated(*inputs)
        with self._mixing(network):
            outputs = network(*self._joint(inputs))
        return pytree.tree_map_only(Tensor, _first_half, outputs)

    @torch.no_grad()
    def _joint(self, inputs: Inputs) -> Inputs:
        place = np.random.SeedSequence([self._seed, self.steps, self._passes, distributed.rank()])
        random = torch.Generator().manual_seed(int(place.generate_state(1)[0]))
        self._passes += 1
        return joined(inputs, self._knockoffs(inputs, random))

    def end_step(self) -> None:
        """Count a training step; the next one has random numbers of its own."""
        self.steps += 1
        self._passes = 0

    @contextlib.contextmanager
    def _mixing(self, network: nn.Module) -> Iterator[None]:
        handles = [
            network.get_submodule(layer.point.module).register_forward_hook(
                _mixer(beta, index, layer.point.axis)
            )
            for layer, beta, index in zip(self.layers, self.betas, self._indices, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Clamped(Callback):
    """Keeps the betas between 0 and 1, and counts the steps."""

    def __init__(self, network: ControlledNetwork) -> None:
        self._network = network

    @torch.no_grad()
    def after_step(self) -> None:
        self._network.end_step()
        for beta in self._network.betas:
            beta.clamp_(0, 1)

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        return {}, {"steps": self._network.steps}

    def restore(self, _tensors: Tensors, values: dict[str, Any]) -> None:
        self._network.steps = values["steps"]


def train_betas(
    context: Context, knockoffs: Knockoffs, *, epochs: int, lr: float
) -> tuple[ControlledNetwork, History]:
    """Train the betas by Adam on the task's loss of the real inputs; the network stays as it is.

    A user whose loss is inside a training loop of their own has none to call: then the loss is the
    distance from the dense network's outputs [ours].
    """
    imitates = context.training.recipe.train is not None
    network = ControlledNetwork(
        context.model, context.traced, knockoffs, context.training.seed, imitates=imitates
    )
    history = Trainer(
        network,
        context.train,
        _settings(context.training, lr, network if imitates else None),
        _phase(epochs, lr),
        callback=_Clamped(network),
        progress=context.progress,
        journal=context.shared,
    ).run()
    return network, history


def check_outputs(problem: Problem) -> None:
    """Check that the dense network can be imitated where the user's loss is out of reach.

    Raises:
        UsageError: It cannot: its outputs in training have another form than those in eval mode.
    """
    if problem.training.recipe.train is None:
        return
    network = copied(problem.model)
    example = [x.to(device_of(network)) for x in problem.traced.example]
    with torch.no_grad():
        wanted = network.eval()(*example)
        train_mode(network)
        outputs = network(*example)
    if output_distance(problem.training, outputs, wanted, None) is None:
        raise UsageError(
            "The loss is inside a training loop of your own, so SCOP compares outputs with those "
            "of the dense network, and this network's have another form in training mode.",
            "Give the loss (`Recipe(loss=...)`) instead of the loop, or choose another method.",
        )


def _settings(training: Training, lr: float, imitating: ControlledNetwork | None) -> Training:
    recipe = replace(
        training.recipe,
        optimiser=lambda network: Adam(network.parameters(), lr=lr, betas=_BETAS),
        schedule=None,
    )
    if imitating is not None:
        recipe = replace(recipe, loss=_imitation(training, imitating))
    return replace(training, recipe=recipe)


def _imitation(training: Training, network: ControlledNetwork) -> Callable[[Any, Any], Tensor]:
    """Distance of the outputs from the dense network's for the same inputs, as a loss."""

    def loss(outputs: Any, target: Any) -> Tensor:
        distance = output_distance(training, outputs, network.wanted.outputs, target)
        assert distance is not None, "see `check_outputs`"
        return distance

    return loss


def _phase(epochs: int, lr: float) -> Phase:
    return Phase(
        name=_PHASE,
        checkpoint=_CHECKPOINT,
        epochs=epochs,
        lr=lr,
        momentum=0.0,
        weight_decay=0.0,
        order=_ORDER,
    )


def _mixer(beta: Tensor, index: Tensor, axis: int) -> Any:
    def mix(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        half = len(output) // 2
        real = output[:half]
        control = output[half:]
        shape = [1] * output.dim()
        shape[axis] = len(index)
        share = torch.cat([beta, beta.new_ones(1)])[index].view(shape).to(output.dtype)
        return torch.cat([share * real + (1 - share) * control, control])

    return mix


def _first_half(output: Tensor) -> Tensor:
    return output[: len(output) // 2] if output.dim() else output
