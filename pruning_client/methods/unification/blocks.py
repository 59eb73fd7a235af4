"""Partition of a layer's weights into blocks, and the projection that gives each block one
absolute value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.methods.unification.options import BlockShape


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Blocks of a weight, seen as a matrix [R, C]: its first axis against all others.

    R are the filters of a convolution or linear layer, and the inputs of a transposed convolution.
    Blocks at the right and lower edges are smaller where their size does not divide the matrix.
    """

    #: Shape of the weight.
    shape: tuple[int, ...]
    #: Rows and columns of a block.
    rows: int
    columns: int

    @classmethod
    def of(cls, shape: Sequence[int], block: BlockShape) -> Blocks:
        """Blocks of a weight; at least one weight each and at most the matrix."""
        columns = math.prod(shape[1:])
        rows, width = (1, columns) if block == "filter" else block
        return cls(shape=tuple(shape), rows=min(rows, shape[0]), columns=min(width, columns))

    @property
    def grid(self) -> tuple[int, int]:
        """Number of blocks along rows and columns."""
        columns = math.prod(self.shape[1:])
        return math.ceil(self.shape[0] / self.rows), math.ceil(columns / self.columns)

    @property
    def count(self) -> int:
        """Number of blocks."""
        return math.prod(self.grid)

    def sums(self, values: Tensor) -> Tensor:
        """Sum of the values [*shape] of each block [B], in float32."""
        return self._tiles(values.float()).sum((1, 3)).flatten()

    def largest(self, values: Tensor) -> Tensor:
        """Largest absolute value [B] of each block of values [*shape]."""
        return self._tiles(values.abs()).amax((1, 3)).flatten()

    def spread(self, values: Tensor) -> Tensor:
        """The value of its block [B] at each weight [*shape]."""
        down, across = self.grid
        tiles = values.view(down, 1, across, 1).expand(down, self.rows, across, self.columns)
        matrix = tiles.reshape(down * self.rows, across * self.columns)
        return matrix[: self.shape[0], : math.prod(self.shape[1:])].reshape(self.shape)

    def sizes(self, like: Tensor) -> Tensor:
        """Number of weights of each block [B], in float32."""
        return self.sums(torch.ones_like(like))

    def _tiles(self, values: Tensor) -> Tensor:
        """Values [*shape] by block [down, rows, across, columns], filled up with zeros."""
        matrix = values.flatten(1)
        down, across = self.grid
        padding = (0, across * self.columns - matrix.shape[1], 0, down * self.rows - len(matrix))
        return F.pad(matrix, padding).view(down, self.rows, across, self.columns)


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """What is fixed of a unified weight: its signs, and which blocks are zero."""

    blocks: Blocks
    #: -1 or 1 for each weight [*shape], 0 in blocks that are zero.
    signs: Tensor

    def project(self, values: Tensor) -> Tensor:
        """The nearest values [*shape] of this pattern: signs times one number for each block.

        As a function of gradients it gives each block one gradient. It is linear, so an optimiser
        that treats all weights of a block alike never leaves the pattern.
        """
        means = self.blocks.sums(values * self.signs) / self.blocks.sizes(self.signs)
        return (self.blocks.spread(means) * self.signs).to(values.dtype)

    def hold(self, parameter: nn.Parameter) -> Callable[[], None]:
        """Give each block of a parameter one gradient; return a function that ends this."""
        handle = parameter.register_hook(self.project)  # type: ignore[no-untyped-call]
        release: Callable[[], None] = handle.remove
        return release


def magnitudes(blocks: Blocks, weight: Tensor, zeros: float) -> Tensor:
    """Absolute value of each block [B] of the unified weight, 0 for the share `zeros` of blocks.

    The mean u of the absolute values is the nearest number to them. The loss of unifying a block is
    ``sum (|w| - u)^2``, that of zeroing it ``sum w^2`` [rec]: more by ``n u^2`` for n weights. The
    blocks for which that is least become zero.
    """
    sizes = blocks.sizes(weight)
    means = blocks.sums(weight.abs()) / sizes
    order = torch.argsort(sizes * means.square(), stable=True)
    return means.index_fill(0, order[: round(zeros * blocks.count)], 0.0)


def unified(blocks: Blocks, weight: Tensor, zeros: float) -> tuple[Tensor, Pattern]:
    """The nearest weight [*shape] whose blocks have one absolute value each, and its pattern."""
    spread = blocks.spread(magnitudes(blocks, weight, zeros))
    signs = torch.where(weight < 0, -1.0, 1.0) * (spread > 0)
    return (signs * spread).to(weight.dtype), Pattern(blocks=blocks, signs=signs)
