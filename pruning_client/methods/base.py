"""The interface of pruning methods: their context, and the selection that they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import nn

from latency_service.core.arrays import Floats, Ints
from pruning_client.data.batches import Batches
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import Progress, silent
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.training.config import Training

#: Scores are above zero: no channel is for nothing.
LEAST_SCORE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a method works with."""

    #: the dense network; a method may train its weights in place
    model: nn.Module
    traced: Traced
    train: Batches
    predictor: Predictor
    #: predicted latency to reach
    target_ms: float
    training: Training = field(default_factory=Training)
    progress: Progress = silent
    #: accuracy in per cent of the model as it stands, for the history
    evaluate: Callable[[nn.Module], float] | None = None
    #: keeps checkpoints
    journal: Journal = field(default_factory=Journal)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a method decided."""

    #: channels to keep in each group, ascending [G][width]; widths on the target's lattice
    keep: list[Ints]
    #: scores of every channel [G][C], all above zero and comparable between
    #: groups; higher = keep. Widths are corrected by them after the first measurement.
    scores: list[Floats]
    #: one entry for each report of the training: `phase`, `step`, `loss`, `latency_ms`, `accuracy`
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def widths(self) -> list[int]:
        return [len(index) for index in self.keep]


class Method(Protocol):
    """A way to decide which channels stay: a frozen dataclass whose fields are its options.

    A method leaves the predicted latency at or below ``context.target_ms``, every width on the
    lattice and at or above its group's minimum. It may train ``context.model`` in place; it neither
    removes channels nor fine-tunes.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str:
        """Name in reports and on the command line."""

    def run(self, context: Context) -> Selection:
        """Decide.

        Raises:
            BudgetError: no widths on the lattice reach the target.
        """


def best_channels(scores: list[Floats], widths: Sequence[int]) -> list[Ints]:
    """The channels with the highest scores, ascending [G][width]; ties go to the lower channel."""
    return [
        np.sort(np.argsort(-score, kind="stable")[:width]).astype(np.int64)
        for score, width in zip(scores, widths, strict=True)
    ]
