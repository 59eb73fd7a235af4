"""When channels are removed, and which."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pruning_client.methods.dcp.milestones import milestone_goals, milestone_steps, remove_worst

LATTICE = [[2, 4, 6, 8], [2, 4, 6, 8]]


def latency(widths: Any) -> Any:
    return np.asarray(widths, float) @ [1.0, 1.0]


def test_milestones_lie_between_a_quarter_and_sixty_per_cent() -> None:
    assert milestone_steps(1000, 8) == [250, 300, 350, 400, 450, 500, 550, 600]
    assert milestone_steps(1000, 1) == [600]
    assert min(milestone_steps(1, 10)) == 1


def test_goals_fall_by_the_same_factor() -> None:
    goals = milestone_goals(8.0, 1.0, 3)
    assert goals == pytest.approx([4.0, 2.0, 1.0])
    assert goals[-1] == 1.0


def test_a_target_above_the_full_latency_removes_nothing() -> None:
    assert milestone_goals(8.0, 9.0, 2) == pytest.approx([8.0, 9.0])


def test_the_worst_of_all_groups_go() -> None:
    """The four lowest scores are of the first group, the next two of the second."""
    scores = [np.array([1, 2, 3, 4, 20, 21, 22, 23.0]), np.array([5, 6, 7, 8, 9, 10, 11, 12.0])]
    assert remove_worst(scores, latency, LATTICE, 12) == [4, 8]
    assert remove_worst(scores, latency, LATTICE, 11) == [4, 6]
    assert remove_worst(scores, latency, LATTICE, 16) == [8, 8]


def test_no_group_gets_narrower_than_its_minimum() -> None:
    scores = [np.arange(8.0), 100 + np.arange(8.0)]
    assert remove_worst(scores, latency, LATTICE, 8) == [2, 6]
    assert remove_worst(scores, latency, LATTICE, 4) == [2, 2]


def test_a_later_milestone_goes_on_from_the_present_widths() -> None:
    scores = [np.array([20, 21, 22, 23.0]), np.array([5, 6, 7, 8, 9, 10, 11, 12.0])]
    assert remove_worst(scores, latency, LATTICE, 12) == [4, 8]
    assert remove_worst(scores, latency, LATTICE, 8) == [4, 4]


def test_a_predictor_need_not_be_monotone() -> None:
    """One lattice step of the first group is predicted to be slower."""

    def bumpy(widths: Any) -> Any:
        return latency(widths) + 4 * (np.asarray(widths)[:, 0] == 6)

    scores = [np.arange(8.0), 100 + np.arange(8.0)]
    assert remove_worst(scores, bumpy, LATTICE, 15) == [4, 8]
