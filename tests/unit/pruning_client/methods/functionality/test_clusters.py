"""Clusters, and the order in which they lose channels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pruning_client.methods.functionality import clusters


@pytest.fixture
def labels() -> np.ndarray:
    return np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 3])


@pytest.fixture
def contribution() -> np.ndarray:
    return np.array([5.0, 1, 4, 2, 3, 0.3, 0.1, 0.2, 0.01, 7, 8])


@pytest.mark.parametrize("level", [0, 0.2, 0.25, 0.49, 0.5, 0.75, 0.99, 1])
def test_a_level_removes_its_share_of_each_cluster(
    level: float, labels: np.ndarray, contribution: np.ndarray
) -> None:
    """floor(r (size - 1)), the least contributors first; so the last one always stays."""
    levels = clusters.removal_levels(labels, contribution)
    removed = set(np.flatnonzero(levels <= level).tolist())
    for label in range(4):
        members = sorted(np.flatnonzero(labels == label), key=lambda c: contribution[c])
        count = math.floor(level * (len(members) - 1))
        assert removed & set(members) == set(members[:count])
        assert count < len(members)


def test_the_order_of_scores_is_that_of_levels(
    labels: np.ndarray, contribution: np.ndarray
) -> None:
    levels = clusters.removal_levels(labels, contribution)
    order = clusters.keeping_order(levels, contribution).tolist()
    assert order[:4] == [10, 0, 7 if contribution[7] > contribution[5] else 5, 8]
    assert levels[order].tolist() == sorted(levels, reverse=True)


def test_k_means_finds_groups_of_points() -> None:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(5, 40))
    truth = np.arange(30) % 5
    points = clusters.coordinates(centres[truth] + 0.01 * generator.normal(size=(30, 40)))
    assert points.shape == (30, 30)
    for seed in range(3):
        found = clusters.k_means(points, 5, seed)
        assert {(a, b) for a, b in zip(truth, found, strict=True)}.__len__() == 5
        np.testing.assert_array_equal(found, clusters.k_means(points, 5, seed))


def test_equal_points_are_never_parted() -> None:
    points = np.repeat(np.eye(3), 4, axis=0)
    found = clusters.k_means(points, 8, 0)
    assert found.max() == 2
    assert all(len(set(found[4 * k : 4 * k + 4])) == 1 for k in range(3))
