"""Vectors of two blocks for predictors of free-form features."""

from __future__ import annotations

import numpy as np

from latency_service.training.models.block_features import (
    BlockLayout,
)


def vectors(count: int, seed: int = 0) -> np.ndarray:
    """Two blocks of kernel (3, 5, 7) and channels, and a resolution [count, 5]; the second block
    may be absent.
    """
    rng = np.random.default_rng(seed)
    kernels = rng.choice([3, 5, 7], (count, 2))
    channels = rng.integers(8, 65, (count, 2))
    channels[: count // 4, 1] = 0
    return np.concatenate([kernels, channels, rng.integers(10, 40, (count, 1))], axis=1).astype(
        float
    )


BLOCKS = BlockLayout(columns=[[0, 2, 4], [1, 3, 4], [None, None, 4]], size=(1, 2))
