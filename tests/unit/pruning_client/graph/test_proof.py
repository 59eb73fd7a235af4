"""The search for the groups whose removal is wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from latency_service.spaces.plan import Keep
from latency_service.spaces.schemas import WidthGroup
from pruning_client.graph import proof


class Groups:
    """Only the width groups of a search space."""

    def __init__(self, count: int) -> None:
        self.groups = [
            WidthGroup(name=f"g{index}", width=8, minimum=1, members=[f"g{index}"])
            for index in range(count)
        ]


@given(st.integers(1, 40), st.sets(st.integers(0, 39)), st.sets(st.integers(0, 39)))
def test_bisection_finds_what_one_group_at_a_time_finds(
    count: int, wrong: set[int], together: set[int]
) -> None:
    calls = 0

    def fault(keep: Keep) -> str | None:
        nonlocal calls
        calls += 1
        cut = {index for index, channels in enumerate(keep) if len(channels) < 8}
        named = [*sorted(cut & wrong), *(sorted(cut & together)[1:2])]
        return f"fault {named[0]}" if named else None

    expected: set[int] = set()
    kept: set[int] = set()
    for index in range(count):
        alone = index in wrong or (index in together and kept & together)
        (expected if alone else kept).add(index)
    found = proof.failing_groups(Groups(count), fault)  # type: ignore[arg-type]
    assert found.keys() == expected
    assert calls <= 1 + len(expected) * (1 + count.bit_length())
    assert all(reason.startswith("fault") for reason in found.values())
