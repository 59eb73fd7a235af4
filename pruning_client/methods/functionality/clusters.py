"""Clusters of filters with the same function, and the order in which they lose filters."""

from __future__ import annotations

import math

import numpy as np

from latency_service.core.arrays import Floats, Ints

_ITERATIONS = 50
#: Squared distance at or below this share of the mean squared norm is no distance.
_NOTHING = 1e-9


def coordinates(rows: Floats) -> Floats:
    """Rows [N, D] in at most N dimensions, with the same distances between them."""
    values, vectors = np.linalg.eigh(rows @ rows.T)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


def k_means(points: Floats, count: int, seed: int) -> Ints:
    """Cluster [N] of each point [N, D], by Lloyd's algorithm from k-means++ centres.

    There are fewer clusters than `count` where there are fewer distinct points.
    """
    generator = np.random.default_rng(seed)
    centres = _first_centres(points, count, generator)
    labels = _nearest(points, centres)
    for _ in range(_ITERATIONS):
        centres = np.stack([points[labels == k].mean(0) for k in np.unique(labels)])
        new = _nearest(points, centres)
        if np.array_equal(new, labels):
            break
        labels = new
    return np.asarray(np.unique(labels, return_inverse=True)[1], np.int64)


def _first_centres(points: Floats, count: int, generator: np.random.Generator) -> Floats:
    chosen = [int(generator.integers(len(points)))]
    nothing = _NOTHING * float(np.square(points).sum(1).mean())
    while len(chosen) < count:
        distances = _distances(points, points[chosen]).min(1)
        distances = np.where(distances > nothing, distances, 0)
        if not distances.any():
            break
        chosen.append(int(generator.choice(len(points), p=distances / distances.sum())))
    return points[chosen]


def _nearest(points: Floats, centres: Floats) -> Ints:
    return np.asarray(_distances(points, centres).argmin(1), np.int64)


def _distances(points: Floats, centres: Floats) -> Floats:
    """Squared distances [N, K]."""
    return np.asarray(np.square(points[:, None] - centres[None]).sum(2))


def removal_levels(labels: Ints, contribution: Floats) -> Floats:
    """Level r in (0, 1] from which each channel [C] is removed; infinite for those never removed.

    At level r a cluster of a size has lost floor(r (size - 1)) of its channels, those of least
    contribution first: its i-th channel goes at r = i / (size - 1), and the last one never.
    """
    levels = np.full(len(labels), np.inf)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranked = members[np.argsort(contribution[members], kind="stable")]
        for place, channel in enumerate(ranked[:-1], 1):
            levels[channel] = place / (len(members) - 1)
    return levels


def keeping_order(levels: Floats, contribution: Floats) -> Ints:
    """Channels [C] from the one to keep first to the one to remove first: by level, and by
    contribution among equal levels.
    """
    return np.lexsort((np.arange(len(levels)), -contribution, -levels))


def cluster_count(width: int, share: float) -> int:
    """Number of clusters of a group."""
    return max(1, math.ceil(share * width - 1e-9))
