"""Random widths for every batch of a PruningNet's training."""

from __future__ import annotations

from typing import Any

import numpy as np

from pruning_client.execution.journal import Tensors
from pruning_client.methods.meta_pruning.pruning_net import PruningNet
from pruning_client.training.callback import Callback


class RandomWidths(Callback):
    """Uniformly random widths of the grid for every training step.

    The widths of a step depend on the seed and its number only, so that all processes of a job draw
    the same ones, and a resumed training draws those that it would have drawn.
    """

    def __init__(self, network: PruningNet, seed: int) -> None:
        self._network = network
        self._seed = seed
        self._done = 0
        self._draw()

    def after_step(self) -> None:
        self._done += 1
        self._draw()

    def state(self) -> tuple[Tensors, dict[str, Any]]:
        return {}, {"done": self._done}

    def restore(self, tensors: Tensors, values: dict[str, Any]) -> None:
        self._done = values["done"]
        self._draw()

    def _draw(self) -> None:
        rng = np.random.default_rng([self._seed, self._done])
        grid = self._network.grid
        self._network.set_widths(grid.widths(grid.draw(rng, 1)[0]).tolist())
