"""When a machine counts as changed."""

from __future__ import annotations

import pytest

from latency_service.devices.drift import has_changed, in_common

KNOWN = [0.1, 0.4, 0.9]


@pytest.mark.parametrize(
    ("factors", "changed"),
    [
        ([1.0, 1.0, 1.0], False),
        ([1.05, 1.04, 1.05], False),
        ([1.2, 1.2, 1.2], True),
        ([0.8, 0.8, 0.8], True),
        ([1.3, 1.2, 1.02], False),
        ([0.8, 1.2, 1.0], False),
    ],
)
def test_all_canaries_must_have_moved_the_same_way(factors: list[float], changed: bool) -> None:
    assert (
        has_changed(KNOWN, [ms * factor for ms, factor in zip(KNOWN, factors, strict=True)])
        is changed
    )


def test_a_target_without_canaries_never_changes() -> None:
    assert not has_changed([], [])


def test_calibrations_with_other_canaries_are_compared_by_those_that_both_have() -> None:
    four = ["a", "b", "c", "d"]
    assert in_common(four, [1, 2, 4, 8], ["b", "a"], [3, 1.5]) == ([1, 2], [1.5, 3])
    assert has_changed(*in_common(four, [1, 2, 4, 8], ["a", "b"], [1.5, 3]))
    assert not has_changed(*in_common(four, [1, 2, 4, 8], ["a", "b"], [1, 2]))
    assert not has_changed(*in_common(["a"], [1], ["b"], [9]))
