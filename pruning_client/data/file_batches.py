"""Batches of images in files: decoded by worker processes while the network is trained."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate

from pruning_client.data.batch import Batch
from pruning_client.data.batches import (
    EVALUATION_BATCH,
    Batches,
    permutation,
    stratified,
)
from pruning_client.data.images import EncodedImages, Place
from pruning_client.errors import DataError

#: Images from which worker processes decode, and how many processes there are at most.
_MANY = 2000
_MOST_WORKERS = 8
#: Images that are drawn several times to see whether a transform augments them, and how often.
_DRAWN = 3
_DRAWS = 4


@dataclass(frozen=True, kw_only=True)
class FileBatches:
    """Images in files with one label each; no pixels are kept in memory."""

    images: EncodedImages
    #: Names of the classes in the order of the labels; empty where files do not name them.
    classes: tuple[str, ...] = ()
    batch_size: int = 128
    #: Positions of the images that belong to this part [n].
    index: Tensor
    #: Mean of each channel, for images in 0..1.
    mean: tuple[float, ...] | None = None
    #: Standard deviation of each channel.
    std: tuple[float, ...] | None = None
    #: Whether passes for training are augmented, or have a transform of their own.
    augment: bool = True
    #: Processes that decode; by default as many as processors for more than a few images.
    workers: int | None = None

    def __len__(self) -> int:
        return max(1, len(self.index) // self.batch_size)

    def shuffled(self, seed: int) -> Iterator[Batch]:
        order = self._in_windows(self.index[permutation(len(self.index), seed)], seed)
        # a short last batch would make batch statistics noisy: it is left out of this pass
        order = order[: len(self) * self.batch_size]
        return self._pass(_Order(order, seed if self.augment else None), self.batch_size)

    def ordered(self) -> Iterator[Batch]:
        self._check_alike()
        return self._pass(_Order(self._in_windows(self.index, None), None), EVALUATION_BATCH)

    def split(self, share: float, seed: int) -> tuple[Batches, Batches]:
        """Stratified: every label keeps its share in both parts.

        Raises:
            DataError: The transform of held-out images returns others each time.
        """
        self.check_steady()
        order = self.index[permutation(len(self.index), seed)]
        held_out = stratified(self.images.labels[order], share)
        return replace(self, index=order[~held_out]), replace(self, index=order[held_out])

    def check_steady(self) -> None:
        """Refuse a transform that augments held-out images.

        Raises:
            DataError: It returns other images each time.
        """
        transform = self.images.preparation.transform
        if transform is None:
            return
        for position in self.index[:_DRAWN].tolist():
            drawn = [self.images.draw(transform, Place(position, seed)) for seed in range(_DRAWS)]
            if any(not torch.equal(drawn[0], other) for other in drawn[1:]):
                raise DataError(
                    "The transform returns other images each time, so that held-out images would "
                    "be augmented.",
                    "Give it as `train_transform` and that of held-out images as `transform`; or "
                    "give `val_data` with a transform of its own.",
                )

    def _in_windows(self, order: Tensor, seed: int | None) -> Tensor:
        """Positions [n] window by window, each in the given order."""
        return order[torch.argsort(self.images.windows(seed)[order], stable=True)]

    def _pass(self, order: _Order, batch_size: int) -> Iterator[Batch]:
        loader: DataLoader[Any] = DataLoader(
            self.images,
            batch_size=batch_size,
            sampler=order,
            num_workers=self._worker_count,
            collate_fn=_collated,
        )
        for found in loader:
            if isinstance(found, DataError):
                raise found
            pixels, labels = found
            yield Batch((self._as_images(pixels),), labels)

    def _as_images(self, pixels: Tensor) -> Tensor:
        """Normalised images [B, C, H, W] of pixels uint8 [B, C, H, W], in few passes over them;
        floating point, of transforms, as it is.
        """
        if pixels.is_floating_point():
            self._check_unnormalised()
            return pixels
        if self.mean is None or self.std is None:
            return pixels.float().div_(255)
        mean, std = (torch.tensor(x).view(1, -1, 1, 1) for x in (self.mean, self.std))
        return pixels.float().mul_(1 / (255 * std)).sub_(mean / std)

    def _check_alike(self) -> None:
        """Refuse images in 0..1 beside training images that a transform has normalised."""
        own = self.images.preparation
        if own.train_transform is None or own.transform is not None or not len(self.index):
            return
        first = Place(int(self.index[0]), 0)
        if self.images.draw(own.train_transform, first).is_floating_point():
            raise DataError(
                "The transform of training images returns floating point, and held-out images have "
                "none.",
                "Give the transform of held-out images too: `transform`.",
            )

    def _check_unnormalised(self) -> None:
        if self.mean is not None:
            raise DataError(
                "The transform returns floating point, and mean and std are given.",
                "Normalise in one of the two places.",
            )

    @property
    def _worker_count(self) -> int:
        if self.workers is not None:
            return self.workers
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        return 0 if len(self.index) < _MANY else min(_MOST_WORKERS, processors)


class _Order(Sampler[Place]):
    def __init__(self, order: Tensor, seed: int | None) -> None:
        self._order = order
        self._seed = seed

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Place]:
        for position in self._order:
            yield Place(int(position), self._seed)


def _collated(samples: Sequence[Any]) -> Any:
    """A batch, or the first error among the samples."""
    errors = (sample for sample in samples if isinstance(sample, DataError))
    error = next(errors, None)
    shapes = {tuple(sample[0].shape) for sample in samples} if error is None else set()
    if len(shapes) > 1:
        return DataError(
            f"The transform returns images of different shapes: {sorted(shapes)}.",
            "Let it end with a crop or a resize to one size.",
        )
    return error or default_collate(list(samples))
