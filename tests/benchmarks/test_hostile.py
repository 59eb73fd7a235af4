from __future__ import annotations

import pytest

from benchmarks.cases import hostile


@pytest.mark.long
def test_quick_form() -> None:
    """All that does not depend on what else the machine does."""
    outcome = hostile.run(quick=True)
    missed = {bar.bar for bar in outcome.bars if not bar.holds}
    assert missed <= {
        "time to an answer, 99th percentile",
        "longest time to an answer",
        "longest response time of /healthz",
    }
    assert outcome.data["untyped"] == {}
