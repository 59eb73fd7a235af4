"""The search for the groups whose removal is wrong."""

from __future__ import annotations

import dataclasses
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from latency_service.spaces.plan import Keep
from latency_service.spaces.schemas import WidthGroup
from pruning_client.graph import comparison, proof
from pruning_client.graph.bisection import failing_groups
from pruning_client.graph.silence import ClosedTwin
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim


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
    found = dict(failing_groups(Groups(count), fault))  # type: ignore[arg-type]
    assert found.keys() == expected
    assert calls <= 1 + len(expected) * (1 + count.bit_length())
    assert all(reason.startswith("fault") for reason in found.values())


def test_the_search_ends_where_even_the_whole_network_is_wrong() -> None:
    found = list(islice(failing_groups(Groups(3), lambda _: "drifts"), 10))  # type: ignore[arg-type]
    assert found == [(0, "drifts"), (1, "drifts"), (2, "drifts")]


def test_a_group_behind_dead_channels_is_silent() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2), nn.ReLU(), nn.Linear(2, 2))
    traced = make_space(model, torch.rand(2, 3), minimum=1)
    keep = [np.arange(8), np.arange(2)]
    twin = proof.Twin(seed=0, model=model, structure=None, outputs=[])

    def silent() -> set[int]:
        return ClosedTwin(twin=twin, gates=traced.gates, keep=keep, inputs=traced.example).silent

    assert silent() in (set(), {0, 1})
    with torch.no_grad():
        model[1].bias.fill_(5)
        assert not silent()
        model[1].bias.fill_(-5)
    assert silent() == {0, 1}


class _DeadHead(nn.Module):
    """A sigmoid leaks zeros; random weights of seed 0 leave nothing behind the last ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.second = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)
        self.last = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.sigmoid(self.first(x)))
        return self.last(F.relu(self.head(y)))


class _CountsInside(nn.Module):
    """A number of channels in the forward pass, which only a live head shows."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.head = nn.Linear(8, 2)
        self.last = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x))
        return self.last(F.relu(self.head(y) / y.shape[1]))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of the twins drawn, of which the first has a dead head."""
    drawn = []
    draw = proof.draw_twin

    def first_is_dead(
        model: nn.Module, example: tuple[Tensor, ...], seed: int, settings: set[str]
    ) -> proof.Twin:
        twin = draw(model, example, seed, settings)
        drawn.append(seed)
        if seed:
            return twin
        with torch.no_grad():
            twin.model.head.bias.fill_(-50)
            outputs = twin.model(*example)
        return dataclasses.replace(twin, outputs=proof.arrays(outputs))

    monkeypatch.setattr(proof, "draw_twin", first_is_dead)
    return drawn


def test_what_the_first_random_weights_hide_the_next_ones_show(drawn: list[int]) -> None:
    traced = make_space(_DeadHead(), torch.randn(2, 3), minimum=1)
    assert drawn[:2] == [0, 1]
    assert "Sigmoid" in traced.space.manifest.unprunable["first"]


def test_the_form_of_a_smaller_network_is_chosen_by_live_weights(drawn: list[int]) -> None:
    model = _CountsInside()
    with torch.no_grad():
        model.head.bias.fill_(5)
    traced = make_space(model, torch.randn(2, 3), minimum=1)
    small = slim(model, traced, proof.random_keep(traced.space))
    assert not isinstance(small, _CountsInside)


class _FaintShift(nn.Module):
    """A shift leaks zeros; what the outputs still show of it is a thousandth of their size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.shift = nn.Parameter(torch.zeros(8))
        self.second = nn.Linear(8, 4)
        self.straight = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.second(self.first(x) + self.shift))
        return self.straight(x) + hidden / 1000


def test_a_leak_that_the_outputs_hardly_show_is_found() -> None:
    traced = make_space(_FaintShift(), torch.randn(2, 3), minimum=1)
    assert not [group for group in traced.space.groups if "first" in group.members]
    assert "Add" in traced.space.manifest.unprunable["first"]


class _TakesLastTwo(nn.Module):
    """The positions of channels in the forward pass, behind a head of few channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.head = nn.Linear(2, 4)
        self.norm = nn.BatchNorm1d(4)
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)[:, -2:] if self.first.out_features == 8 else self.first(x)[:, :2]
        return self.last(F.relu(self.norm(self.head(y))))


def test_the_form_is_chosen_by_weights_that_show_the_channels_that_stay() -> None:
    torch.manual_seed(0)
    model = _TakesLastTwo().eval()
    traced = make_space(model, x := torch.randn(2, 3), minimum=1)
    names = {group.name: index for index, group in enumerate(traced.space.groups)}
    for channel in range(4):
        keep = [np.arange(width) for width in traced.space.full_widths]
        keep[names["head"]] = np.array([channel])
        keep[names["first"]] = keep[names["first"]][:3]
        small = slim(model, traced, keep)
        with proof.gated(model, traced.gates, keep):
            wanted = proof.run_torch(model, (x,))
        assert comparison.agree(wanted, proof.run_torch(small, (x,)))
