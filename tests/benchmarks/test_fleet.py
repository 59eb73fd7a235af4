"""The benchmarks of the queue in their quick forms."""

from __future__ import annotations

import pytest

from benchmarks.cases import claims, fleet_scale
from benchmarks.support.harness import Outcome


def values(outcome: Outcome) -> dict[str, float]:
    return {bar.bar: bar.value for bar in outcome.bars}


@pytest.mark.long
def test_claims_finds_no_double_and_no_error() -> None:
    found = values(claims.run(quick=True))
    for dialect in ("sqlite", "postgresql"):
        assert found[f"{dialect}: jobs finished twice"] == 0
        assert found[f"{dialect}: jobs not finished"] == 0
        assert found[f"{dialect}: errors that reached a process"] == 0
        assert found[f"{dialect}: doubles of select and update"] >= 1


@pytest.mark.long
def test_every_simulated_agent_is_served() -> None:
    found = values(fleet_scale.run(quick=True))
    assert found["agents' requests that failed"] == 0
    assert found["p99 from a campaign to its lease"] < 10_000
