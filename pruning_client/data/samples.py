"""Samples whose form is not a pair of images and labels, and data sets without a loader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from pruning_client.data.batch import Pick, pick_pair, picker
from pruning_client.data.images import as_pixels


@dataclass(frozen=True)
class Samples:
    """A DataLoader or Dataset, and what of its samples are the inputs and the target.

    >>> Samples(dataset, inputs=("left", "right"), target="disparity")  # doctest: +SKIP
    """

    #: A DataLoader, or anything with a length and positions, such as a torch `Dataset` or one of
    #: Hugging Face.
    data: Any
    #: Key of the input, or of several in the order of the network's forward pass.
    inputs: str | tuple[str, ...] | None = None
    #: Key of the target.
    target: str | None = None
    #: Function of a sample (of a batch, for a DataLoader) that returns inputs and target.
    pick: Callable[[Any], tuple[Any, Any]] | None = None
    #: Side in pixels of the square to which PIL images of a data set are scaled and cropped.
    image_size: int | None = None

    @property
    def picked(self) -> Pick:
        """The function that picks inputs and target."""
        if self.pick is not None:
            return self.pick
        if self.inputs is None and self.target is None:
            return pick_pair
        return picker(self.inputs, self.target)


class PickedDataset(Dataset[tuple[Any, Any]]):
    """Pairs of inputs and target of a data set, with PIL images as tensors uint8 [C, H, W].

    Args:
        channels: Channels of the images, 1 or 3; by default those that each one has.
    """

    def __init__(self, samples: Samples, channels: int | None = None) -> None:
        self._data = samples.data
        self._pick = samples.picked
        self._size = samples.image_size
        self._channels = channels

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, position: int) -> tuple[Any, Any]:
        inputs, target = self._pick(self._data[position])
        return self._as_tensors(inputs), _as_target(target)

    def _as_tensors(self, value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return tuple(self._as_tensors(part) for part in value)
        if isinstance(value, dict):
            return {key: self._as_tensors(part) for key, part in value.items()}
        if isinstance(value, Image.Image):
            return as_pixels(value, size=self._size, channels=self._channels)
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _as_target(value: Any) -> Any:
    """A mask that is an image as its integers [H, W]; others as they are."""
    if isinstance(value, Image.Image):
        return torch.from_numpy(np.array(value)).long()
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
