"""Micro-structured weight pruning and unification (Lin et al., arXiv 2106.08301).

The paper trains with ADMM so that the weights of a hardware-compatible block share one absolute
value; a block unified to zero is micro-structured pruning. The projection and the schedule are
reconstructions, the treatment of width groups and the budget are ours
(docs/explanation/methods.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pruning_client.data.batches import Batches
from pruning_client.errors import UsageError
from pruning_client.execution.copies import copied
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import Progress
from pruning_client.methods import allocation
from pruning_client.methods.base import Context, Problem, Selection
from pruning_client.methods.training_run import pruning_phase
from pruning_client.methods.unification.admm import Admm, AdmmCallback
from pruning_client.methods.unification.channels import ChannelProjection, channel_parts
from pruning_client.methods.unification.options import AdmmOptions, UnificationOptions
from pruning_client.training import schedules
from pruning_client.training.batch_norm import train_mode
from pruning_client.training.config import Training
from pruning_client.training.trainer import Evaluate, History, Trainer


@dataclass(frozen=True, kw_only=True)
class WeightUnification(UnificationOptions):
    """Blocks of weights with one absolute value, trained by ADMM.

    With whole filters as blocks, those that become zero are pruned, and the rest is left free: a
    method of `prune`. With smaller blocks files become smaller and nothing becomes faster: see
    `compress`.
    """

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UsageError: One of them is out of its range.
        """
        fault = self._fault()
        if fault is not None:
            raise UsageError(f"WeightUnification cannot be used so: {fault}.", "Change the option.")

    @property
    def name(self) -> str:
        return "weight-unification"

    def check(self, problem: Problem) -> None:
        """Check that the blocks are filters.

        Raises:
            UsageError: They are smaller.
        """
        if self.block != "filter":
            raise UsageError(
                f"Blocks of {self.block[0]} x {self.block[1]} weights make the file smaller, not "
                "the network faster: no channel is removed.",
                'Use `compress` (`pruning-client compress`), or block="filter" to prune.',
            )

    def run(self, context: Context) -> Selection:
        """Train with ADMM until the channels that the budget leaves no room for are near zero.

        Raises:
            UsageError: See `check`.
            BudgetError: No widths on the lattice meet the target.
        """
        self.check(context)
        predictor = context.predictor
        allocation.check_reachable(predictor.latency_ms, predictor.lattice, context.target_ms)
        torch.manual_seed(context.training.seed)
        parts = channel_parts(context.model, context.traced)
        projection = ChannelProjection(context, parts, self.allocator)
        parameters = [part.parameter for part in parts]
        admm = Admm(parameters, projection, self, self.epochs * len(context.train))
        history = train_admm(
            context.model,
            context.train,
            context.training,
            admm,
            self,
            progress=context.progress,
            evaluate=context.evaluate,
            journal=context.journal,
        )
        selection = projection.select(admm.wanted)
        return Selection(keep=selection.keep, scores=selection.scores, history=history)

    def _fault(self) -> str | None:
        if self.block != "filter" and min(self.block) < 1:
            return f"a block of {self.block} has no weights"
        if not 0 <= self.zeros < 1:
            return f"zeros={self.zeros} is no share below 1"
        if min(self.epochs, self.stages, self.updates) < 1:
            return "epochs, stages and updates are at least 1"
        if self.rho_growth < 1 or (self.rho is not None and self.rho <= 0):
            return "the penalty has to be positive and to grow"
        return None if self.lr > 0 and 0 <= self.momentum < 1 else "SGD would not move"


def train_admm(
    model: nn.Module,
    data: Batches,
    training: Training,
    admm: Admm,
    options: AdmmOptions,
    *,
    progress: Progress,
    evaluate: Evaluate | None,
    journal: Journal,
) -> History:
    """Train a network with ADMM, in the user's own loop or the default one; left in eval mode."""
    own_loop = training.recipe.train
    if own_loop is not None:
        train_mode(model)
        own_loop(model, admm)
        model.eval()
        return []
    return Trainer(
        model,
        data,
        training,
        pruning_phase(
            epochs=options.epochs,
            lr=options.lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            schedule=schedules.constant,
        ),
        teacher=copied(model).eval(),
        callback=AdmmCallback(admm),
        progress=progress,
        evaluate=evaluate,
        journal=journal,
    ).run()
