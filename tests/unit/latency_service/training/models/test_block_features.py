from __future__ import annotations

import numpy as np
import pytest

from latency_service.training.models.block_features import (
    ABSENT,
    build_block_features,
    whole,
)
from tests.support.block_vectors import BLOCKS, vectors


def test_roles_are_dealt_to_parts_and_what_is_missing_counts_as_one() -> None:
    values = BLOCKS.at(np.array([[3.0, 5, 16, 0, 20]]))
    assert values.tolist() == [[[3, 16, 20], [5, 0, 20], [1, 1, 20]]]


def test_a_part_of_size_zero_is_absent() -> None:
    x = vectors(40)
    sizes = build_block_features(BLOCKS, x).log_macs(x)
    assert (sizes[:10, 1] == ABSENT).all()
    np.testing.assert_allclose(sizes[:, 0], np.log(x[:, 2] * x[:, 4]))


def test_features_are_standardised_over_the_parts_present() -> None:
    x = vectors(60)
    features = build_block_features(BLOCKS, x)
    present = features.log_macs(x) > ABSENT
    seen = features.at(x)[present]
    assert seen.shape[1] == features.size
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(seen.std(0), 1, atol=1e-9)


def test_choices_are_told_apart_exactly_and_joined_linearly() -> None:
    x = np.array([[1.0], [4], [4], [9], [20]])
    features = build_block_features(whole(1), x)
    at = features.at(np.array([[1.0], [4], [9], [20]]))[:, 0]
    assert np.linalg.matrix_rank(at - at.mean(0)) == 3
    hats = features.matrix[:-1]  # without the logarithm
    ramps = np.maximum(np.array([[4.0], [6.5], [9]]) - features.knots, 0)
    first, middle, last = ramps @ hats
    np.testing.assert_allclose(middle, (first + last) / 2, atol=1e-12)


def test_a_column_that_reaches_zero_with_many_values_enters_as_it_is() -> None:
    x = np.linspace(0, 30, 31)[:, None]
    features = build_block_features(whole(1), x)
    assert features.size == 1
    np.testing.assert_allclose(np.diff(features.at(x)[:, 0, 0], 2), 0, atol=1e-9)


@pytest.mark.parametrize("value", [2.0, 3.0])
def test_columns_that_never_vary_are_left_out(value: float) -> None:
    x = np.array([[value, 1.0], [value, 2.0], [value, 5.0]])
    assert build_block_features(whole(2), x).size == build_block_features(whole(1), x[:, 1:]).size
