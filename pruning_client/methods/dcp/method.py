"""DCP-CAC: dynamical channel pruning by conditional accuracy change (Chen et al., TNNLS 2021, doi
10.1109/TNNLS.2020.2979517).

Switching off at random, both criteria, milestones and the exponent of the goals are as in the
authors' code; what is reconstructed or our own is marked in docs/explanation/methods.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pruning_client.errors import UsageError
from pruning_client.methods.base import Context, Problem, Selection
from pruning_client.methods.dcp.options import DcpOptions
from pruning_client.methods.dcp.pruning import DynamicPruning
from pruning_client.methods.new_weights import check_trainable_anew, reinitialise
from pruning_client.methods.training_run import (
    check_prunable,
    dense_teacher,
    pruning_phase,
    run_training,
)


@dataclass(frozen=True, kw_only=True)
class DCP(DcpOptions):
    """Channels that are worth least to the accuracy are removed at milestones of one training run,
    until the predicted latency meets the target.
    """

    @property
    def name(self) -> str:
        """Name of the criterion: ``dcp`` or ``dcp-2``."""
        return "dcp" if self.criterion == 1 else "dcp-2"

    def check(self, problem: Problem) -> None:
        """Check that the method can work with a network and a training.

        Raises:
            UsageError: The recipe has a training loop of its own, or the network cannot be trained
                from new weights and should be.
        """
        if problem.training.recipe.train is not None:
            raise UsageError(
                "DCP needs the accuracy of every batch, which a training loop of your own "
                "(`Recipe.train`) does not report.",
                "Give loss, optimiser and schedule in the recipe in place of the loop, or choose "
                "another method.",
            )
        if self.start == "scratch":
            check_trainable_anew(problem.model, 'start from the dense network: `start="dense"`')

    def run(self, context: Context) -> Selection:
        """Train the network, and remove channels meanwhile; see `DynamicPruning`.

        Raises:
            BudgetError: No widths on the lattice meet the target.
            UsageError: See `check`.
            ValueError: The search space has no width group.
        """
        self.check(context)
        check_prunable(context)
        torch.manual_seed(context.training.seed)
        teacher = dense_teacher(context)
        if self.start == "scratch":
            reinitialise(context.model, context.training.seed)
        pruning = DynamicPruning(context, self, self.training_epochs * len(context.train))
        phase = pruning_phase(
            epochs=self.training_epochs,
            lr=self.rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
        )
        with pruning.attached():
            history = run_training(context, phase, pruning, teacher)
        context.model.eval()
        return Selection(
            keep=pruning.keep,
            scores=pruning.scores,
            history=history,
            from_scratch=self.start == "scratch",
        )
