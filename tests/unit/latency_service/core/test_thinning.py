from __future__ import annotations

from latency_service.core.thinning import thinned


def test_thinning_keeps_the_ends() -> None:
    assert thinned([1, 2, 3]) == [1, 2, 3]
    kept = thinned(range(10_001), 100)
    assert len(kept) == 100
    assert (kept[0], kept[-1]) == (0, 10_000)
