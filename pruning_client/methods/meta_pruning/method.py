"""MetaPruning (Liu et al., "MetaPruning: Meta learning for automatic neural network channel
pruning", ICCV 2019, arXiv 1903.10258).

Sizes of the search, scale grid and generator are those of the published code. What is our own is
marked in docs/explanation/methods.md, "MetaPruning".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch

from latency_service.core.arrays import Ints
from pruning_client.data.batches import Batches
from pruning_client.errors import ModelError, UsageError
from pruning_client.execution.copies import copied
from pruning_client.methods.allocation import check_reachable, fit
from pruning_client.methods.base import Context, Problem, Selection, best_channels
from pruning_client.methods.meta_pruning.evolution import SearchOptions
from pruning_client.methods.meta_pruning.fitness import Fitness, split
from pruning_client.methods.meta_pruning.generators import check_memory, generated_weights
from pruning_client.methods.meta_pruning.pruning_net import PruningNet
from pruning_client.methods.meta_pruning.search import front_scores, search_widths
from pruning_client.methods.meta_pruning.training import (
    Initial,
    NetworkOptions,
    Norms,
    make_network,
    train_network,
)
from pruning_client.methods.new_weights import check_trainable_anew, reinitialise
from pruning_client.training.trainer import History

#: Weights of the pruned network before fine-tuning.
Start = Literal["super-net", "scratch"]


@dataclass(frozen=True, kw_only=True)
class MetaPruning(SearchOptions, NetworkOptions):
    """A network that generates weights for any widths, and an evolutionary search with it."""

    #: Weights that fine-tuning starts with: those generated for the best widths, or random ones,
    #: which want as many epochs of fine-tuning as the given network took.
    start: Start = "super-net"
    #: Share of the training data that candidates are compared on.
    held_out: float = 0.1
    #: Number of held-out images that a candidate is evaluated on.
    images: int = 512
    #: Number of training images that a candidate's batch norms are re-estimated on.
    statistics_images: int = 256

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UsageError: One of them is not valid.
        """
        super().__post_init__()
        for name, kind in (("start", Start), ("initial", Initial), ("norms", Norms)):
            if getattr(self, name) not in get_args(kind):
                raise UsageError(
                    f"The option {name} of MetaPruning is {getattr(self, name)!r}.",
                    f"Give one of: {', '.join(get_args(kind))}.",
                )

    @property
    def name(self) -> str:
        return "meta-pruning"

    @property
    def _is_anew(self) -> bool:
        """Whether nothing is left of the given network's weights."""
        return self.start == "scratch" or self.initial == "random"

    def check(self, problem: Problem) -> None:
        """Check that there is something to prune, and that its weights can be generated.

        Raises:
            UsageError: The generators need more memory than `memory_gb`, the recipe has a training
                loop of its own, or new weights are wanted where parameters cannot have them.
            ModelError: Nothing can be pruned, or no weight can be generated.
        """
        if not problem.traced.space.groups:
            raise ModelError(
                "The search space has no width group: there is nothing to prune.",
                "See the manifest of the space for the reasons.",
            )
        if problem.training.recipe.train is not None:
            raise UsageError(
                "A recipe's own `train` trains gates; meta-pruning trains generators of weights.",
                "Give the loss (`Recipe(loss=...)`) instead, or choose w-gates.",
            )
        if self._is_anew:
            check_trainable_anew(
                problem.model,
                'keep what is there: `start="super-net"` with `initial="given"`',
            )
        like = next(problem.model.parameters())
        weights = generated_weights(problem.model, problem.traced)
        check_memory(weights, self.hidden, self.rank, self.memory_gb, like)

    def run(self, context: Context) -> Selection:
        """Train the network with generated weights, and search for the best widths.

        The network is left with the weights generated for these widths, or with random ones.

        Raises:
            BudgetError: No widths on the lattice meet the target.
            UsageError, ModelError: See `check`.
            SurgeryError: The network cannot be made smaller.
            DataError: There are no images, or outputs and labels do not fit the metric.
        """
        self.check(context)
        predictor = context.predictor
        check_reachable(predictor.latency_ms, predictor.lattice, context.target_ms)
        torch.manual_seed(context.training.seed)
        teacher = copied(context.model).eval()
        network = make_network(context, self)
        training, held_out = split(context.train, self.held_out, context.training.seed)
        fitness = self._fitness(context, network, training, held_out)
        history = train_network(context, network, training, teacher, self)
        best, found = search_widths(context, network.grid, fitness, self)
        selection = _selection(context, network.order, best, [*history, *found])
        self._leave_weights(context, network, selection.widths)
        return replace(selection, from_scratch=self._is_anew)

    def _fitness(
        self, context: Context, network: PruningNet, training: Batches, held_out: Batches
    ) -> Fitness:
        return Fitness(
            context,
            network,
            training,
            held_out,
            images=self.images,
            statistics_images=self.statistics_images,
        )

    def _leave_weights(self, context: Context, network: PruningNet, widths: Sequence[int]) -> None:
        network.write(widths, context.model)
        if self.start == "scratch":
            reinitialise(context.model, context.training.seed)
        context.model.eval()


def _selection(
    context: Context, order: Sequence[Ints], best: Sequence[int], history: History
) -> Selection:
    """The best candidate with the rest of the budget used."""
    predictor = context.predictor
    widths = fit(
        best,
        front_scores(order, best, predictor),
        predictor.latency_ms,
        predictor.lattice,
        context.target_ms,
    )
    scores = front_scores(order, widths, predictor)
    return Selection(keep=best_channels(scores, widths), scores=scores, history=history)
