"""Data that can be iterated any number of times: held in memory, or drawn from a DataLoader."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, is_dataclass, replace
from itertools import islice
from typing import Any, Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from pruning_client.data.batch import ACCEPTED_FORMS, Batch, Pick, make_batch, pick_pair
from pruning_client.errors import DataError, last_line

EVALUATION_BATCH = 256
#: Samples that are drawn several times to see whether a data set augments them, and how often.
_DRAWN_SAMPLES = 8
_DRAWS = 6
#: Held-out samples of a loader without a length; one that yields more does not end.
_MOST_SAMPLES = 2_000_000


class Batches(Protocol):
    """Data in batches that can be iterated any number of times."""

    def __len__(self) -> int:
        """Number of batches in one pass."""

    def shuffled(self, seed: int) -> Iterator[Batch]:
        """One pass for training, in the order given by the seed."""

    def ordered(self) -> Iterator[Batch]:
        """One pass for evaluation, always in the same order."""

    def split(self, share: float, seed: int) -> tuple[Batches, Batches]:
        """Two disjoint parts, the second with `share` of the samples."""


@dataclass(frozen=True, kw_only=True)
class ImageBatches:
    """Samples in memory."""

    #: Inputs [N, ...] in the order of the network's forward pass, uint8 or floating point.
    inputs: tuple[Tensor, ...]
    #: Tensors [N, ...] in the structure of the target.
    target: Any
    batch_size: int = 128
    #: Positions of the samples that belong to this part [n].
    index: Tensor
    #: Mean of each channel, for images in 0..1.
    mean: tuple[float, ...] | None = None
    #: Standard deviation of each channel.
    std: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return max(1, len(self.index) // self.batch_size)

    def shuffled(self, seed: int) -> Iterator[Batch]:
        order = self.index[permutation(len(self.index), seed)]
        # a short last batch would make batch statistics noisy: it is left out of this pass
        for at in range(0, len(self) * self.batch_size, self.batch_size):
            yield self._batch(order[at : at + self.batch_size])

    def ordered(self) -> Iterator[Batch]:
        for part in torch.split(self.index, EVALUATION_BATCH):
            yield self._batch(part)

    def split(self, share: float, seed: int) -> tuple[Batches, Batches]:
        """Stratified where the target is one integer for each sample: every label keeps its share
        in both parts.
        """
        order = self.index[permutation(len(self.index), seed)]
        held_out = self._held_out(order, share)
        return replace(self, index=order[~held_out]), replace(self, index=order[held_out])

    def _held_out(self, order: Tensor, share: float) -> Tensor:
        labels = self.target
        if torch.is_tensor(labels) and labels.dim() == 1 and not labels.is_floating_point():
            return stratified(labels[order], share)
        return torch.arange(len(order)) < round(len(order) * share)

    def _batch(self, index: Tensor) -> Batch:
        target = pytree.tree_map_only(Tensor, lambda x: x[index], self.target)
        batch = make_batch((tuple(x[index] for x in self.inputs), target))
        inputs = tuple(normalised(x, self.mean, self.std) for x in batch.inputs)
        return replace(batch, inputs=inputs)


class LoaderBatches:
    """A user's DataLoader.

    Training keeps the loader's own order; the seed goes to its generator and to torch's.

    Args:
        pick: Function that picks inputs and target from what the loader yields.
        names: Parameters of the network's forward pass, for inputs in dictionaries.
    """

    def __init__(
        self, loader: DataLoader[Any], pick: Pick = pick_pair, names: Sequence[str] = ()
    ) -> None:
        self._loader = loader
        self._pick = pick
        self._names = names
        self._shuffles = isinstance(getattr(loader, "sampler", None), RandomSampler)

    def __len__(self) -> int:
        """Number of batches in one pass for training.

        Raises:
            DataError: The loader has no length, or no batch.
        """
        try:
            count = len(self._loader)
        except TypeError as error:
            raise DataError(
                "The training data have no length, which the schedule of training needs.",
                "Give their data set a `__len__`: the number of samples in one pass.",
            ) from error
        if not count:
            raise DataError(
                "The loader has no batch: it leaves out the last one (`drop_last`), and has fewer "
                "samples than that.",
                "Give more samples, or a smaller batch size.",
            )
        return count - self._ends_with_one

    def shuffled(self, seed: int) -> Iterator[Batch]:
        torch.manual_seed(seed)
        if self._loader.generator is not None:
            self._loader.generator.manual_seed(seed)
        # a batch of one sample has no statistics: it is left out
        return islice(self._batches(self._loader), len(self))

    def ordered(self) -> Iterator[Batch]:
        loader = self._loader
        if self._shuffles and _has_plain_order(loader):
            loader = self._like(loader.dataset, shuffle=False)
        count = 0
        for batch in self._batches(loader):
            yield batch
            count += len(batch)
            if count > _MOST_SAMPLES and not _has_length(loader):
                raise DataError(
                    f"The data have no length, and {count} samples were not all.",
                    "Give held-out data that end, as `val_data`.",
                )

    @property
    def _ends_with_one(self) -> bool:
        """Whether a pass ends with a batch of a single sample."""
        loader = self._loader
        size = loader.batch_size
        if size is None or size < 2 or loader.drop_last or not _has_plain_order(loader):
            return False
        if not _has_length(loader) or len(loader) < 2:
            return False
        return len(cast("Sized", loader.sampler)) % size == 1

    def split(self, share: float, seed: int) -> tuple[Batches, Batches]:
        """Split the loader's data set at random.

        Raises:
            DataError: The data set has no length or augments its samples, or the loader has a
                sampler of its own.
        """
        dataset = self._loader.dataset
        if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
            raise _inseparable("its data set has no length")
        if self._loader.batch_sampler is None:
            raise _inseparable("it has no batch size")
        if not _has_plain_order(self._loader):
            raise _inseparable("it has a sampler of its own")
        if _augments(self._loader):
            raise _inseparable(
                "its data set returns other images each time, so that held-out images would be "
                "augmented"
            )
        order = permutation(len(dataset), seed).tolist()
        cut = round(len(order) * share)
        train = self._like(Subset(dataset, order[cut:]), shuffle=True)
        held_out = self._like(Subset(dataset, order[:cut]), shuffle=False)
        return (
            LoaderBatches(train, self._pick, self._names),
            LoaderBatches(held_out, self._pick, self._names),
        )

    def _batches(self, loader: DataLoader[Any]) -> Iterator[Batch]:
        batches = iter(loader)
        for number in itertools.count(1):
            try:
                batch = make_batch(self._pick(next(batches)), self._names)
            except StopIteration:
                return
            except DataError:
                raise
            except Exception as error:
                raise DataError(
                    f"Batch {number} of the data cannot be made: {type(error).__name__}: "
                    f"{last_line(error)}.",
                    "Look at the data set and its collate function: they fail for a sample, or "
                    "their samples have different shapes.",
                ) from error
            yield batch

    def _like(self, dataset: Any, *, shuffle: bool) -> DataLoader[Any]:
        """A loader of another data set with the options of this one."""
        old = self._loader
        return DataLoader(
            dataset,
            batch_size=old.batch_size,
            shuffle=shuffle,
            num_workers=old.num_workers,
            drop_last=old.drop_last and shuffle,
            collate_fn=old.collate_fn,
            pin_memory=old.pin_memory,
            worker_init_fn=old.worker_init_fn,
            multiprocessing_context=old.multiprocessing_context,
        )


def first_inputs(data: Batches, count: int = 2) -> tuple[Tensor, ...]:
    """The first inputs, each [count, ...], to trace a model with.

    Raises:
        DataError: There are no samples.
    """
    for batch in data.ordered():
        if len(batch):
            return batch.first(count).inputs
    raise DataError("The data hold no images.", ACCEPTED_FORMS)


def images_in(data: Batches, seed: int = 0) -> int:
    """Number of samples in one pass for training, by the size of its first batch."""
    return len(data) * len(next(iter(data.shuffled(seed))))


def normalised(
    images: Tensor, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Tensor:
    """Images [B, C, ...] with the mean and standard deviation of each channel taken out."""
    if mean is None or std is None:
        return images
    per_channel = (1, -1, *[1] * (images.dim() - 2))
    centred = images - torch.tensor(mean).view(per_channel)
    return centred.div_(torch.tensor(std).view(per_channel))


def permutation(length: int, seed: int) -> Tensor:
    """Positions [length] in the order of a seed."""
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed))


def stratified(labels: Tensor, share: float) -> Tensor:
    """Mask [N] of the first `share` of the images of every label, and of one image at least."""
    labels = labels.cpu()
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    wanted = 0.0
    taken = 0
    for label in torch.unique(labels):
        where = torch.nonzero(labels == label).flatten()
        # what is rounded off for one label goes to the next: of two images each, some are chosen
        wanted += len(where) * share
        # the last image of a label is not taken from training
        count = min(max(1, len(where) - 1), max(0, round(wanted) - taken))
        chosen[where[:count]] = True
        taken += count
    if not taken and len(labels) > 1:
        chosen[0] = True
    return chosen


def _has_plain_order(loader: DataLoader[Any]) -> bool:
    """Whether the loader only shuffles its data set, or does not: no sampler of the user's."""
    return type(loader.batch_sampler) is BatchSampler and isinstance(
        loader.sampler, (RandomSampler, SequentialSampler)
    )


def _has_length(loader: DataLoader[Any]) -> bool:
    try:
        len(loader)
    except TypeError:
        return False
    return True


def _augments(loader: DataLoader[Any]) -> bool:
    """Whether a data set, or the function that makes batches of it, returns other values for the
    same samples.
    """
    dataset: Any = loader.dataset
    collate = loader.collate_fn
    state = torch.get_rng_state()
    try:
        for at in range(min(_DRAWN_SAMPLES, len(dataset))):
            drawn = [_values(collate([dataset[at]])) for _ in range(_DRAWS)]
            if any(other != drawn[0] for other in drawn[1:]):
                return True
        return False
    except Exception:  # noqa: BLE001 what fails here fails, with its reason, when it is used
        return False
    finally:
        torch.set_rng_state(state)


def _values(sample: Any) -> list[bytes]:
    """Content of the arrays, tensors and images of a sample, whatever its structure."""
    if torch.is_tensor(sample):
        return [sample.detach().cpu().numpy().tobytes()]
    if isinstance(sample, np.ndarray):
        return [sample.tobytes()]
    if isinstance(sample, Image.Image):
        return [sample.tobytes()]
    if isinstance(sample, Mapping):
        return [part for value in sample.values() for part in _values(value)]
    if isinstance(sample, (tuple, list)):
        return [part for value in sample for part in _values(value)]
    return _values(vars(sample)) if is_dataclass(sample) else []


def _inseparable(reason: str) -> DataError:
    return DataError(
        f"This DataLoader cannot be split into training and held-out data: {reason}.",
        "Give held-out data of your own: `val_data`.",
    )
