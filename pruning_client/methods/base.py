"""The interface of pruning methods: their context, and the selection that they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from torch import nn

from latency_service.core.arrays import Floats, Ints
from pruning_client.data.batches import Batches
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import Progress, silent
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.training.config import Training

#: A value that a method reports.
Fact = str | bool | int | float
#: Lower bound of a score: no channel is free.
LEAST_SCORE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a method works on, as far as it is known before anything is measured."""

    #: Dense network; a method may train its weights in place.
    model: nn.Module
    traced: Traced
    train: Batches
    training: Training = field(default_factory=Training)


@dataclass(frozen=True, kw_only=True)
class Context(Problem):
    """Inputs of a method."""

    predictor: Predictor
    #: Predicted latency to meet, ms.
    target_ms: float
    progress: Progress = silent
    #: Accuracy of the present model, per cent, for the history.
    evaluate: Callable[[nn.Module], float] | None = None
    #: Store of checkpoints.
    journal: Journal = field(default_factory=Journal)
    #: Journal that the jobs of several budgets share; None where there is one job.
    shared_journal: Journal | None = None

    @property
    def shared(self) -> Journal:
        """Store of checkpoints of what depends on no budget, device or predictor: jobs of several
        budgets share it.
        """
        return self.journal if self.shared_journal is None else self.shared_journal


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that a method adds to the report."""

    title: str
    #: What it shows.
    note: str
    #: Content of a PNG file, at most some hundred kB.
    png: bytes


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Channels that a method keeps."""

    #: Channels to keep in each group, ascending [G][width]; the widths are on the target's lattice.
    keep: list[Ints]
    #: Scores of every channel [G][C], positive and comparable between groups; higher = keep. They
    #: decide how widths change after the first measurement.
    scores: list[Floats]
    #: Entries of the training's history: `phase`, `step`, `loss`, `latency_ms`, `accuracy`.
    history: list[dict[str, Any]] = field(default_factory=list)
    #: What the method has found out, for the report: values by name, with the unit in the name.
    facts: dict[str, Fact] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    #: What the user has to know of the selection, for the report.
    notes: list[str] = field(default_factory=list)
    #: Whether the weights are new ones that have nothing of the dense network's: compensation then
    #: does not fit layers to its outputs.
    from_scratch: bool = False

    @property
    def widths(self) -> list[int]:
        return [len(index) for index in self.keep]


class Method(Protocol):
    """Decides which channels to keep; a frozen dataclass whose fields are its options.

    The predicted latency of the selection is at or below ``context.target_ms``, and every width is
    on the lattice, at or above its group's minimum. A method may train ``context.model`` in place;
    it neither removes channels nor fine-tunes.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str:
        """Name in reports and on the command line."""

    def run(self, context: Context) -> Selection:
        """Choose the channels to keep.

        Raises:
            BudgetError: No widths on the lattice meet the target.
        """


@runtime_checkable
class Checking(Protocol):
    """A method that cannot work with every network, data or training."""

    def check(self, problem: Problem) -> None:
        """Check, before anything is measured, that it can work with these.

        Raises:
            PruningError: It cannot.
        """


@runtime_checkable
class Widening(Protocol):
    """A method that prunes a wider network, made from the one that is given."""

    def widened(self, model: nn.Module, traced: Traced, seed: int) -> nn.Module:
        """The network to prune, in the mode of the given one.

        Args:
            traced: The given network's search space.

        Raises:
            WideningError: Channels cannot be added to the model.
        """


def best_channels(scores: list[Floats], widths: Sequence[int]) -> list[Ints]:
    """Channels with the highest scores, ascending [G][width]; of equal scores the lower channel."""
    return [
        np.sort(np.argsort(-score, kind="stable")[:width]).astype(np.int64)
        for score, width in zip(scores, widths, strict=True)
    ]
