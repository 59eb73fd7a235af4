"""Calibration images, as many as fit into memory at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from pruning_client.data.batch import Batch
from pruning_client.data.batches import Batches
from pruning_client.execution.modes import evaluating
from pruning_client.graph.modules import NORMS, PRODUCERS

#: Maximum number of images.
IMAGES = 1024
#: Every so many-th image is held out.
_HELD_OUT = 8
#: Maximum number of values in one layer's output for all images.
_MOST_VALUES = 2**26


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Images for fitting, and held-out ones."""

    #: Inputs of all images [N, ...], the held-out ones last.
    inputs: tuple[Tensor, ...]
    fit: list[Batch]
    held_out: list[Batch]

    @classmethod
    def draw(cls, model: nn.Module, data: Batches, seed: int) -> Self | None:
        """Images from the training data; None if they are too few to hold out any."""
        fit: list[Batch] = []
        held_out: list[Batch] = []
        seen = 0
        device = next(model.parameters()).device
        for batch in _drawn(model, data, seed):
            rest = (seen + len(batch)) // _HELD_OUT - seen // _HELD_OUT
            seen += len(batch)
            mine = batch.to(device)
            fit += _not_empty(mine.cut(slice(0, len(batch) - rest)))
            held_out += _not_empty(mine.cut(slice(len(batch) - rest, None)))
        if not fit or not held_out:
            return None
        parts = zip(*(batch.inputs for batch in [*fit, *held_out]), strict=True)
        return cls(inputs=tuple(torch.cat(part) for part in parts), fit=fit, held_out=held_out)

    @property
    def held_out_share(self) -> float:
        """Share of the held-out images."""
        return sum(map(len, self.held_out)) / len(self.inputs[0])


def _drawn(model: nn.Module, data: Batches, seed: int) -> Iterator[Batch]:
    """Batches of images of one size."""
    left = IMAGES
    shapes: list[torch.Size] | None = None
    for batch in data.shuffled(seed):
        own = [x.shape[1:] for x in batch.inputs]
        if shapes is None:
            shapes = own
            left = min(IMAGES, max(len(batch), _MOST_VALUES // _largest_output(model, batch)))
        if own == shapes:
            yield batch.first(left)
            left -= len(batch)
        if left <= 0:
            return


def _largest_output(model: nn.Module, batch: Batch) -> int:
    """Number of values for one image in the largest output of a layer or norm."""
    first = batch.first(1).to(next(model.parameters()).device)
    sizes = [1]

    def note(_module: nn.Module, _inputs: object, output: Any) -> None:
        if torch.is_tensor(output):
            sizes.append(output.numel())

    modules = [module for module in model.modules() if isinstance(module, (*PRODUCERS, *NORMS))]
    hooks = [module.register_forward_hook(note) for module in modules]
    try:
        with evaluating(model), torch.no_grad():
            model(*first.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)


def _not_empty(batch: Batch) -> list[Batch]:
    return [batch] if len(batch) else []
