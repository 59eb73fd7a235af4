"""Batches of images and labels, held in memory or drawn from a user's DataLoader."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, Subset

from pruning_client.errors import DataError

#: Cure of an error about data that are none of the accepted forms.
ACCEPTED_FORMS = (
    "Give (images, labels) arrays, a DataLoader, a folder of class folders, or Parquet "
    "with `image` and `label`."
)
_EVALUATION_BATCH = 256


class Batches(Protocol):
    """Data that can be iterated any number of times, in batches of float images [B, ...] and labels
    [B].
    """

    def __len__(self) -> int:
        """Number of batches in one pass."""

    def shuffled(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass for training, in the order given by the seed."""

    def ordered(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass for evaluation, always in the same order."""

    def split(self, share: float, seed: int) -> tuple[Batches, Batches]:
        """Two disjoint parts, the second with `share` of the images."""


class Indexable(Protocol):
    """Images that are indexed by a tensor of positions."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class ImageBatches:
    """Images in memory, or decoded into memory on first use."""

    #: Images [N, ...], uint8 or floating point.
    images: Indexable
    #: Labels [N], int64.
    labels: Tensor
    batch_size: int = 128
    #: Positions of the images that belong to this part [n].
    index: Tensor
    #: Mean of each channel, for images in 0..1.
    mean: tuple[float, ...] | None = None
    #: Standard deviation of each channel.
    std: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return max(1, len(self.index) // self.batch_size)

    def shuffled(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.index[_permutation(len(self.index), seed)]
        # a short last batch would make batch statistics noisy: it is left out of this pass
        for at in range(0, len(self) * self.batch_size, self.batch_size):
            yield self._batch(order[at : at + self.batch_size])

    def ordered(self) -> Iterator[tuple[Tensor, Tensor]]:
        for part in torch.split(self.index, _EVALUATION_BATCH):
            yield self._batch(part)

    def split(self, share: float, seed: int) -> tuple[Batches, Batches]:
        """Stratified: every label keeps its share in both parts."""
        order = self.index[_permutation(len(self.index), seed)]
        held_out = _first_of_each_label(self.labels[order], share)
        return replace(self, index=order[~held_out]), replace(self, index=order[held_out])

    def _batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        images = self.images[index]
        if images.dtype == torch.uint8:
            images = images.float() / 255
        return self._normalised(images).float(), self.labels[index]

    def _normalised(self, images: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            return images
        per_channel = (1, -1, *[1] * (images.dim() - 2))
        mean = torch.tensor(self.mean).view(per_channel)
        std = torch.tensor(self.std).view(per_channel)
        return (images - mean) / std


class LoaderBatches:
    """A user's DataLoader.

    Training keeps the loader's own order; the seed goes to its generator and to torch's.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader
        self._shuffles = isinstance(getattr(loader, "sampler", None), RandomSampler)

    def __len__(self) -> int:
        return len(self._loader)

    def shuffled(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        torch.manual_seed(seed)
        if self._loader.generator is not None:
            self._loader.generator.manual_seed(seed)
        return _pairs(self._loader)

    def ordered(self) -> Iterator[tuple[Tensor, Tensor]]:
        loader = self._like(self._loader.dataset, shuffle=False) if self._shuffles else self._loader
        return _pairs(loader)

    def split(self, share: float, seed: int) -> tuple[Batches, Batches]:
        """Split the loader's data set at random.

        Raises:
            DataError: The data set has no length, or the loader has a sampler of its own.
        """
        dataset = self._loader.dataset
        simple = isinstance(self._loader.sampler, (RandomSampler, SequentialSampler))
        if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized) or not simple:
            raise DataError(
                "This DataLoader cannot be split into training and validation data.",
                "Give validation data: `val_data`.",
            )
        order = _permutation(len(dataset), seed).tolist()
        cut = round(len(order) * share)
        train = self._like(Subset(dataset, order[cut:]), shuffle=True)
        held_out = self._like(Subset(dataset, order[:cut]), shuffle=False)
        return LoaderBatches(train), LoaderBatches(held_out)

    def _like(self, dataset: Any, *, shuffle: bool) -> DataLoader[Any]:
        """A loader of another data set with the options of this one."""
        old = self._loader
        return DataLoader(
            dataset,
            batch_size=old.batch_size,
            shuffle=shuffle,
            num_workers=old.num_workers,
            drop_last=old.drop_last,
            collate_fn=old.collate_fn,
            pin_memory=old.pin_memory,
        )


def first_images(data: Batches, count: int = 2) -> Tensor:
    """The first images [count, ...], to trace a model with.

    Raises:
        DataError: There are no images.
    """
    for images, _ in data.ordered():
        return images[:count]
    raise DataError("The data hold no images.", ACCEPTED_FORMS)


def _permutation(length: int, seed: int) -> Tensor:
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed))


def _first_of_each_label(labels: Tensor, share: float) -> Tensor:
    """Mask [N] of the first `share` of the images of every label."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels):
        where = torch.nonzero(labels == label).flatten()
        chosen[where[: round(len(where) * share)]] = True
    return chosen


def _pairs(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in loader:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise DataError(
                "The DataLoader does not yield pairs of images and labels.", ACCEPTED_FORMS
            )
        images, labels = batch
        yield images.float() if torch.is_tensor(images) else images, labels
