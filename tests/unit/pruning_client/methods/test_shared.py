"""Methods do once for several budgets what does not depend on the budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import ProgressEvent
from pruning_client.methods.base import Method, Selection
from pruning_client.methods.functionality.method import Functionality
from pruning_client.methods.meta_pruning.method import MetaPruning
from pruning_client.methods.pfp.method import PFP
from pruning_client.methods.scop import SCOP
from pruning_client.testing.cases import make_case

#: Each method with the phases of its work that does not depend on the budget.
METHODS: list[tuple[Method, set[str]]] = [
    (SCOP(epochs=1, generator_steps=4), {"train the knockoff generator", "scale"}),
    (PFP(), {"score channels"}),
    (Functionality(steps=2), {"maximise activations"}),
    (
        MetaPruning(
            epochs=1,
            population=4,
            generations=1,
            parents=2,
            mutations=2,
            crossovers=2,
            images=32,
            statistics_images=32,
        ),
        {"train generated weights"},
    ),
]


def selection(
    method: Method, share: float, shared: Journal | None = None
) -> tuple[Selection, set[str]]:
    """What a method selects at a budget, and the phases that it did not find finished."""
    events: list[ProgressEvent] = []
    context = make_case("residual").context(share, progress=events.append)
    if shared is not None:
        context = replace(context, shared_journal=shared)
    return method.run(context), {event.phase for event in events if event.done < event.total}


@pytest.mark.parametrize(
    ("method", "phases"), METHODS, ids=lambda value: getattr(value, "name", "")
)
def test_a_second_budget_takes_what_the_first_one_has_done(
    tmp_path: Path, method: Method, phases: set[str]
) -> None:
    _, first = selection(method, 0.7, Journal(tmp_path, resume=True))
    again, second = selection(method, 0.4, Journal(tmp_path, resume=True))
    alone, _ = selection(method, 0.4)
    assert phases <= first
    assert not phases & second
    for found, expected in zip(again.keep + again.scores, alone.keep + alone.scores, strict=True):
        assert np.array_equal(found, expected)
