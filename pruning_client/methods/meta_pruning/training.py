"""Making and training the PruningNet of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import nn

from latency_service.core.arrays import Ints
from pruning_client.data.batches import Batches
from pruning_client.methods.base import Context
from pruning_client.methods.magnitude import l1_scores
from pruning_client.methods.meta_pruning.encodings import scale_grid
from pruning_client.methods.meta_pruning.pruning_net import PruningNet
from pruning_client.methods.meta_pruning.random_widths import RandomWidths
from pruning_client.methods.new_weights import reinitialise
from pruning_client.training.phase import Phase
from pruning_client.training.trainer import History, Trainer

#: Weights of the PruningNet before its training.
Initial = Literal["given", "random"]
Norms = Literal["recalibrated", "per-scale"]

#: Multiplier of the seed in the order of the images.
_ORDER = 5281


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Options of the PruningNet and its training."""

    #: Epochs of training the network with generated weights; with 0 the search uses those given.
    epochs: int = 6
    #: Peak learning rate of that training; `initial="random"` wants .1.
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    #: Number of scales between .1 and 1.
    scales: int = 31
    #: Batch norms: one scale and shift for all widths, or one for each width. Their statistics are
    #: re-estimated for each candidate in either case.
    norms: Norms = "recalibrated"
    #: Weights before the training: those of the given network, with the channels of each group in
    #: the order of their L1 norm, or random ones, with the channels in their own order.
    initial: Initial = "given"
    #: Width of the generators' hidden layer.
    hidden: int = 32
    #: Rank of the generated changes of the weights; None for changes of full rank.
    rank: int | None = None
    #: Maximum size of the generators in training, GB.
    memory_gb: float = 4.0


def make_network(context: Context, options: NetworkOptions) -> PruningNet:
    """The PruningNet around the job's network, before its training.

    Raises:
        ModelError: No weight of the network can be generated.
    """
    full = [group.width for group in context.traced.space.groups]
    return PruningNet(
        context.model,
        context.traced,
        scale_grid(full, context.predictor.lattice, options.scales),
        _prepared_order(context, options.initial),
        hidden=options.hidden,
        rank=options.rank,
        per_scale=options.norms == "per-scale",
    )


def _prepared_order(context: Context, initial: Initial) -> list[Ints]:
    """Set the first weights, and return the channels of each group, the one that is removed last
    first [G][C].
    """
    if initial == "random":
        reinitialise(context.model, context.training.seed)
        return [np.arange(group.width) for group in context.traced.space.groups]
    scores = l1_scores(context.model, context.traced)
    return [np.argsort(-score, kind="stable") for score in scores]


def train_network(
    context: Context,
    network: PruningNet,
    data: Batches,
    teacher: nn.Module,
    options: NetworkOptions,
) -> History:
    """Train a PruningNet in place, with random widths for each batch, on the recipe's loss and, as
    in fine-tuning, on the distance from the teacher's outputs.

    Raises:
        TrainingFailed: The loss of a step is not finite.
    """
    phase = Phase(
        name="train generated weights",
        checkpoint="meta-pruning",
        epochs=options.epochs,
        lr=options.lr,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        order=_ORDER,
    )
    return Trainer(
        network,
        data,
        context.training,
        phase,
        teacher=teacher,
        callback=RandomWidths(network, context.training.seed),
        progress=context.progress,
        journal=context.shared,
    ).run()
