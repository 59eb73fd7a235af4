"""The benchmark of the dashboard's pages in its quick form."""

from __future__ import annotations

import pytest

from benchmarks.cases import pages


@pytest.mark.long
def test_every_page_is_timed_on_both_databases_and_small() -> None:
    outcome = pages.run(quick=True)
    found = outcome.data["pages"]
    assert set(found["sqlite"]) == set(found["postgresql"])
    assert {"run", "whatif", "eight runs", "two targets"} <= set(found["sqlite"])
    assert all(bar.holds for bar in outcome.bars if bar.unit == "kB")
