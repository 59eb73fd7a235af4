"""Property over random small networks: closed gates = channels removed from the module = channels
removed from the graph, or an error of the project that names the module.

CI tries the same examples every time. ``RANDOM_NETWORKS=3000`` in the environment, with the option
``--timeout 0``, tries that many new ones; with ``--hypothesis-show-statistics`` pytest counts why
layers keep their full width.
"""

from __future__ import annotations

import os
import re

import numpy as np
from hypothesis import HealthCheck, Phase, event, given, settings

from latency_service.spaces.slicing import SearchSpace, materialise
from pruning_client.errors import PruningError
from pruning_client.graph import comparison, proof
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim
from tests.support.random_networks import Case, cases, random_keep

EXAMPLES = int(os.environ.get("RANDOM_NETWORKS", "0"))
#: Largest difference, relative to the largest output.
TOLERANCE = 1e-3


@given(cases())
@settings(
    max_examples=EXAMPLES or 30,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_gated_equals_removed_or_the_reason_is_named(case: Case) -> None:
    traced, refusal = None, ""
    try:
        traced = make_space(case.model, case.example, minimum=1)
    except PruningError as error:
        refusal = str(error)
    if traced is None:
        assert names_a_module(refusal, case), refusal
        event(f"refused: {cause(refusal)}")
        return
    for reason in traced.space.manifest.unprunable.values():
        event(f"left at full width: {cause(reason)}")
    keep = random_keep(traced.space, case.seed)
    space = SearchSpace.from_bytes(traced.space.data)
    widths = [len(channels) for channels in keep]
    removed = materialise(space, widths, keep=keep, weights=traced.weights)
    wanted = proof.run_onnx(removed, traced.example)
    small = slim(case.model, traced, keep)
    assert_equal(proof.run_torch(small, traced.example), wanted)
    with proof.gated(case.model, traced.gates, keep):
        assert_equal(proof.run_torch(case.model, traced.example), wanted)


def names_a_module(text: str, case: Case) -> bool:
    names = [repr(name) for name, _ in case.model.named_modules() if name]
    return any(name in text for name in [*names, f"{type(case.model).__name__}.forward"])


def cause(reason: str) -> str:
    """A reason without names and numbers."""
    return re.sub(r"\d+", "N", re.sub(r"'[^']*'", "*", reason))


def assert_equal(found: comparison.Arrays, wanted: comparison.Arrays) -> None:
    assert [x.shape for x in found] == [x.shape for x in wanted]
    for x, y in zip(found, wanted, strict=True):
        scale = max(1e-2, float(np.abs(y).max()))
        assert np.abs(x - y).max() <= TOLERANCE * scale
