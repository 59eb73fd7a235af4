"""Goals know whether the network that agents read in every round is the dense one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pruning_client.latency.budget import Budget
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.prune import goals_of
from tests.support.goals import fine, goal, measured


@pytest.mark.parametrize(
    ("given", "float_layers", "expected"),
    [
        (None, (), True),
        (None, ("stem",), False),
        (SimpleNamespace(), (), False),
    ],
    ids=["the dense network", "layers in float", "a wider network"],
)
def test_a_reference_that_is_another_network(
    given: object, float_layers: tuple[str, ...], expected: bool
) -> None:
    dense = SimpleNamespace(float_layers=float_layers)
    prop: Any = PruningJob.dense_is_reference
    is_reference = prop.fget(SimpleNamespace(given=given, dense=dense))
    assert is_reference is expected
    like = goal(fine(), 0.6)
    job = SimpleNamespace(
        targets=[SimpleNamespace(device=like.device, runtime=like.runtime)],
        dense_widths=(64, 64, 64),
        dense_is_reference=is_reference,
    )
    prepared: Any = SimpleNamespace(
        job=job, predictors=[like.predictor], dense=[(measured(1.3),), (measured(1.31),)]
    )
    (found,) = goals_of(prepared, Budget(share=0.6))
    assert found.evidence.dense_is_reference is expected
    assert len(found.evidence.readings) == 2
