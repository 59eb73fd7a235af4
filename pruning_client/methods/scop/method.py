"""The method SCOP: channels are judged by a control group of knockoff features."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from pruning_client.methods.base import Context, Problem, Selection
from pruning_client.methods.magnitude import allocate
from pruning_client.methods.names import AllocatorName
from pruning_client.methods.scop.knockoffs import (
    KnockoffSource,
    check_source,
    make_knockoffs,
)
from pruning_client.methods.scop.scaling import check_outputs, train_betas
from pruning_client.methods.scop.scores import control_scores, positive
from pruning_client.methods.training_run import check_prunable


@dataclass(frozen=True, kw_only=True)
class SCOP:
    """Scientific control by knockoff features (Tang et al., NeurIPS 2020, arXiv 2010.10732).

    Real images and knockoffs pass through the frozen network together, and beta learns for each
    channel how much of the real feature is needed beside that of the knockoff. The score
    |gamma| (2 beta - 1), the training of beta and the uniform rate are as in the public code.
    """

    #: Epochs of the scaling stage, in which the betas are trained.
    epochs: int = 20
    #: Learning rate of Adam on the betas.
    lr: float = 4e-3
    #: Rule that turns scores into widths; "uniform" is the published one.
    allocator: AllocatorName = "uniform"
    #: Where knockoffs come from: see `KnockoffSource`.
    knockoffs: KnockoffSource = "auto"
    #: Training steps of the generator of knockoffs.
    generator_steps: int = 1000

    @property
    def name(self) -> str:
        return "scop"

    def check(self, problem: Problem) -> None:
        """Check that knockoffs of the network's inputs can be made.

        Raises:
            DataError: They cannot.
            UsageError: The knockoffs that were given do not fit the inputs, or the recipe has a
                training loop of its own and the network has other outputs in training mode.
        """
        check_source(self.knockoffs, problem.traced.example)
        check_outputs(problem)

    def run(self, context: Context) -> Selection:
        """Make knockoffs, train the betas, then score and allocate; the network is not changed.

        Raises:
            BudgetError: No widths on the lattice meet the target.
            DataError, UsageError: See `check`.
        """
        self.check(context)
        check_prunable(context)
        torch.manual_seed(context.training.seed)
        knockoffs, made = make_knockoffs(context, self.knockoffs, self.generator_steps)
        network, scaled = train_betas(context, knockoffs, epochs=self.epochs, lr=self.lr)
        scores = control_scores(context.model, context.traced, network)
        selection = allocate(context, positive(scores), self.allocator)
        return replace(selection, history=[*made, *scaled])
