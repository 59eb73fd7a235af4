"""Blocks against plain loops over a matrix, and the projection against every alternative."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pruning_client.methods.unification.blocks import Blocks, Pattern, magnitudes, unified

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
BLOCKS = st.one_of(st.just("filter"), st.tuples(st.integers(1, 6), st.integers(1, 40)))


def drawn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tiles_of(blocks: Blocks, values: Tensor) -> list[Tensor]:
    """The values of each block."""
    matrix = values.flatten(1)
    rows = range(0, len(matrix), blocks.rows)
    columns = range(0, matrix.shape[1], blocks.columns)
    return [
        matrix[r : r + blocks.rows, c : c + blocks.columns].flatten() for r in rows for c in columns
    ]


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, block=BLOCKS, seed=st.integers(0, 99))
def test_sums_and_maxima_are_those_of_the_tiles(
    shape: tuple[int, ...], block: object, seed: int
) -> None:
    blocks = Blocks.of(shape, block)  # type: ignore[arg-type]
    values = drawn(shape, seed)
    tiles = tiles_of(blocks, values)
    assert blocks.count == len(tiles)
    np.testing.assert_allclose(blocks.sums(values), [tile.sum() for tile in tiles], atol=1e-5)
    assert blocks.largest(values).tolist() == [float(tile.abs().max()) for tile in tiles]
    assert blocks.sizes(values).tolist() == [len(tile) for tile in tiles]


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, block=BLOCKS, zeros=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_a_unified_block_has_one_absolute_value(
    shape: tuple[int, ...], block: object, zeros: float, seed: int
) -> None:
    blocks = Blocks.of(shape, block)  # type: ignore[arg-type]
    weight = drawn(shape, seed)
    found, pattern = unified(blocks, weight, zeros)
    tiles = tiles_of(blocks, found)
    assert all(len(tile.abs().unique()) == 1 for tile in tiles)
    assert sum(bool((tile == 0).all()) for tile in tiles) == round(zeros * len(tiles))
    assert bool(((found == 0) | (found.sign() == weight.sign())).all())
    torch.testing.assert_close(pattern.project(found), found)


def test_a_block_is_a_filter_or_a_tile() -> None:
    assert Blocks.of((8, 3, 5, 5), "filter").grid == (8, 1)
    assert Blocks.of((8, 3, 5, 5), (2, 25)).grid == (4, 3)
    assert Blocks.of((8, 3, 5, 5), (100, 1000)).count == 1


def test_the_magnitude_is_the_nearest_and_the_cheapest_blocks_become_zero() -> None:
    """Of all choices of two zero blocks of six, the projection is the nearest."""
    weight = drawn((2, 3, 2, 2))
    blocks = Blocks.of(weight.shape, (1, 4))
    found, _ = unified(blocks, weight, 2 / 6)
    free, _ = unified(blocks, weight, 0.0)

    def distance(of: Tensor) -> float:
        return float((of - weight).square().sum())

    choices = []
    for pair in combinations(range(6), 2):
        is_kept = torch.ones(6).index_fill(0, torch.tensor(pair), 0.0)
        choices.append(distance(free * blocks.spread(is_kept)))
    assert distance(found) == pytest.approx(min(choices))
    for factor in (0.9, 1.1):
        assert distance(free * factor) > distance(free)


def test_a_zero_weight_counts_as_positive() -> None:
    weight = torch.tensor([[0.0, -2.0]])
    found, _ = unified(Blocks.of((1, 2), "filter"), weight, 0.0)
    assert found.tolist() == [[1.0, -1.0]]


def test_magnitudes_are_computed_in_float32() -> None:
    weight = drawn((4, 300)).to(torch.bfloat16)
    found = magnitudes(Blocks.of(weight.shape, "filter"), weight, 0.0)
    np.testing.assert_allclose(found, weight.double().abs().mean(1), rtol=1e-5)
    assert unified(Blocks.of(weight.shape, "filter"), weight, 0.0)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_held_weights_never_leave_the_pattern(name: str) -> None:
    """Also where a block's value passes through zero; the gradient is the mean over the block."""
    start, pattern = unified(Blocks.of((4, 10), (2, 3)), drawn((4, 10)), 0.25)
    weight = nn.Parameter(start.clone())
    release = pattern.hold(weight)
    make = {
        "sgd": lambda: torch.optim.SGD([weight], lr=0.2, momentum=0.9, nesterov=True),
        "adam": lambda: torch.optim.Adam([weight], lr=0.2),
    }
    optimiser = make[name]()
    target = drawn((4, 10), seed=7) * 3
    for _ in range(30):
        optimiser.zero_grad()
        (weight - target).square().sum().backward()
        optimiser.step()
    assert (weight * pattern.signs < 0).any()
    for tile in tiles_of(pattern.blocks, weight.detach()):
        assert len(tile.abs().unique()) == 1
    assert torch.equal(weight == 0, start == 0)
    release()
    (gradient,) = torch.autograd.grad((weight * target).sum(), weight)
    assert torch.equal(gradient, target)


def test_the_gradient_of_a_block_is_the_nearest_in_the_pattern() -> None:
    pattern = Pattern(blocks=Blocks.of((1, 4), (1, 2)), signs=torch.tensor([[1.0, -1.0, 0.0, 0.0]]))
    found = pattern.project(torch.tensor([[3.0, 1.0, 5.0, 5.0]]))
    assert found.tolist() == [[1.0, -1.0, 0.0, 0.0]]
