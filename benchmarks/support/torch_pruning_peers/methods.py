"""torch-pruning's importances and its growing regularisation as methods: their criterion, our
dependency graph.

Scores and penalties are computed by torch-pruning's own code (1.6.1; Fang et al., "DepGraph", CVPR
2023). It is handed groups made from our width groups, on every network: its own graph finds the
same ones on the VGG and the MobileNetV2, and fails behind the padding shortcuts of a CIFAR ResNet
(docs/design.md, fact 7).

Widths are those of its global pruning, an option that its script for CIFAR takes, in one step, its
default: one threshold on the importances of all channels, each divided by the mean of its group.
Ours are the choice of the threshold, the lowest that meets the latency, and the lattice, to which
widths are rounded up (`round_to` rounds down). Nothing fits them to the latency afterwards, as
`allocate` does for our own baselines; a contest brings the widths of every method, these too, to
its common latency by their scores.

Importing this module needs the extra ``benchmarks``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor
from torch_pruning.pruner.importance import GroupMagnitudeImportance, GroupTaylorImportance

from benchmarks.support.torch_pruning_peers.groups import groups_of
from benchmarks.support.torch_pruning_peers.growing_penalty import (
    GrowingPenalty,
    Pruner,
    milestones,
)
from latency_service.core.arrays import Floats
from pruning_client.execution.modes import evaluating
from pruning_client.execution.progress import ProgressEvent
from pruning_client.methods import allocation
from pruning_client.methods.base import LEAST_SCORE, Context, Method, Selection, best_channels
from pruning_client.methods.training_run import (
    check_prunable,
    dense_teacher,
    pruning_phase,
    run_training,
)
from pruning_client.training.losses import TrainingLoss
from pruning_client.training.trainer import History

_PHASE = "gradients"


@dataclass(frozen=True, kw_only=True)
class GroupNorm:
    """Squared norm of each channel's weights in all layers of its group: `GroupMagnitudeImportance`
    with its defaults.
    """

    @property
    def name(self) -> str:
        return "tp-group-norm"

    def run(self, context: Context) -> Selection:
        """Score the channels, and choose the threshold.

        Raises:
            BudgetError: No widths on the lattice meet the target.
            UsageError: See `groups_of`.
        """
        check_prunable(context)
        groups = groups_of(context.model, context.traced)
        return _selection(context, importances(GroupMagnitudeImportance(), groups))


@dataclass(frozen=True, kw_only=True)
class Taylor:
    """First-order change of the loss without each weight of a channel: `GroupTaylorImportance` with
    its defaults, which leaves out batch norms.
    """

    #: Number of batches of training data whose gradients are added up; theirs is 10 in their
    #: examples.
    batches: int = 10

    @property
    def name(self) -> str:
        return "tp-taylor"

    def run(self, context: Context) -> Selection:
        """Add up the gradients in eval mode, score the channels, and choose the threshold.

        Raises:
            BudgetError: No widths on the lattice meet the target.
            UsageError: See `groups_of`.
        """
        check_prunable(context)
        groups = groups_of(context.model, context.traced)
        add_gradients(context, self.batches)
        scores = importances(GroupTaylorImportance(), groups)
        context.model.zero_grad(set_to_none=True)
        return _selection(context, scores)


@dataclass(frozen=True, kw_only=True)
class GrowingReg:
    """Training under a penalty that grows fastest for the channels of least norm, then the group
    norm: `GrowingRegPruner` (Wang et al., "Neural pruning via growing regularization", ICLR 2021).

    Rates, schedule and penalties are those of their script (`reproduce/main.py`) as its page gives
    them for a ResNet-56 on CIFAR-10. It trains for 100 epochs, and the penalty grows after each;
    here as many growths are spread over the epochs that there are [ours], so few epochs shrink the
    weights by little. The loss is that of all methods of a contest.
    """

    #: Epochs of training under the penalty.
    epochs: int = 6
    #: Penalty of every channel at the beginning: a factor of its weights, added to the gradient.
    reg: float = 1e-4
    #: Largest increase of a channel's penalty in one growth.
    delta_reg: float = 1e-5
    #: Number of growths.
    growths: int = 100
    #: Peak learning rate of SGD.
    lr: float = 0.01
    momentum: float = 0.9
    #: L2 penalty of the weights that the growing one does not concern; theirs is none.
    weight_decay: float = 0.0

    @property
    def name(self) -> str:
        return "tp-growing-reg"

    def run(self, context: Context) -> Selection:
        """Train the network in place, score the channels, and choose the threshold.

        Raises:
            BudgetError: No widths on the lattice meet the target.
            UsageError: See `groups_of`.
        """
        check_prunable(context)
        groups = groups_of(context.model, context.traced)
        pruner = Pruner(groups, reg=self.reg, delta_reg=self.delta_reg)
        steps = self.epochs * len(context.train)
        penalty = GrowingPenalty(pruner, context.model, growths=self.growths, steps=steps)
        phase = pruning_phase(
            epochs=self.epochs,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=milestones,
        )
        history = run_training(context, phase, penalty, dense_teacher(context))
        return _selection(context, importances(pruner.importance, groups), history)


#: Every peer by name, with its default options.
PEERS: Mapping[str, Method] = {peer.name: peer for peer in (GroupNorm(), Taylor(), GrowingReg())}


def importances(importance: Any, groups: Sequence[Any]) -> list[Floats]:
    """torch-pruning's importances [G][C], positive, with a mean of 1 in each group."""
    return [_as_scores(importance(group)) for group in groups]


def add_gradients(context: Context, batches: int) -> None:
    """Add up the gradients of the training loss over a number of batches, in eval mode, where the
    parameters keep their gradients.
    """
    model = context.model
    device = next(model.parameters()).device
    loss = TrainingLoss(training=context.training)
    total = min(batches, len(context.train))
    model.zero_grad(set_to_none=True)
    with evaluating(model):
        shuffled = islice(context.train.shuffled(context.training.seed), total)
        for done, batch in enumerate(shuffled, 1):
            loss(model, batch.to(device)).backward()  # type: ignore[no-untyped-call]
            context.progress(ProgressEvent(phase=_PHASE, done=done, total=total, unit="batches"))


def _selection(context: Context, scores: list[Floats], history: History | None = None) -> Selection:
    """The channels above one threshold."""
    predictor = context.predictor
    widths = allocation.threshold(
        scores, predictor.latency_ms, predictor.lattice, context.target_ms
    )
    return Selection(keep=best_channels(scores, widths), scores=scores, history=history or [])


def _as_scores(importance: Tensor) -> Floats:
    """Scores [C] of importances [C]; all zero they are 0/0 once they are divided by their mean, and
    equal ones are 1.
    """
    values = importance.double().nan_to_num(nan=1.0).clamp_min(LEAST_SCORE)
    return np.asarray(values.cpu().numpy())
