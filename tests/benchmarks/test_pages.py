from __future__ import annotations

import pytest

from benchmarks.cases import pages


@pytest.mark.long
def test_quick_form() -> None:
    """Every page is answered; how fast depends on what else the machine does."""
    found = pages.run(quick=True).data["pages"]
    assert found.keys() == {"sqlite", "postgresql"}
    assert found["sqlite"].keys() == found["postgresql"].keys() > {"home", "device", "predictor"}
