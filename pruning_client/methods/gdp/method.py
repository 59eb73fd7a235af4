"""The method GDP: joint training of weights and polarising gates under a latency budget."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pruning_client.errors import UsageError
from pruning_client.methods.base import Context, Problem, Selection
from pruning_client.methods.gdp.branches import residual_branches
from pruning_client.methods.gdp.options import GdpOptions
from pruning_client.methods.gdp.places import find_places
from pruning_client.methods.gdp.polar_gates import PolarGates
from pruning_client.methods.joint_training import train_jointly
from pruning_client.methods.training_run import check_prunable


@dataclass(frozen=True, kw_only=True)
class GDP(GdpOptions):
    """Gates with differentiable polarisation (Guo et al., ICCV 2021, arXiv 2109.02220).

    Gates before convolutions, zero gates whose channels are removed and the absorption of the
    others are the paper's. The form of the gate is a reconstruction; schedule, budgeted losses and
    the decision on the lattice are our own, as marked in docs/explanation/methods.md.
    """

    @property
    def name(self) -> str:
        return "gdp"

    def check(self, problem: Problem) -> None:
        """Check that there are gates to train.

        Raises:
            UsageError: The network has no residual branch to switch.
        """
        if self.blocks and not residual_branches(problem.traced):
            raise UsageError(
                "The network has no residual branch with channels of its own that could be "
                "switched.",
                "Leave out the gates of branches: `GDP(blocks=False)`.",
            )

    def run(self, context: Context) -> Selection:
        """Train weights and gates until the gates' widths meet the budget, and absorb the gates.

        Raises:
            BudgetError: No widths on the lattice meet the target.
            UsageError: See `check`.
        """
        self.check(context)
        gates, selection = train_polar_gates(context, self)
        gates.absorb()
        return selection


def train_polar_gates(context: Context, options: GdpOptions) -> tuple[PolarGates, Selection]:
    """Train weights and gates; the gates are not yet absorbed, and no longer attached."""
    check_prunable(context)
    torch.manual_seed(context.training.seed)
    places = find_places(context.model, context.traced, context.progress)
    gates = PolarGates(context, places, options)
    return gates, train_jointly(context, gates, options)
