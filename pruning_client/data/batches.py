"""Images and labels, whatever they come as: arrays, a DataLoader, a folder of class folders, or
Parquet files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, Subset

from pruning_client.data.files import ImageFiles
from pruning_client.data.images import EncodedImages, list_folder
from pruning_client.errors import DataError

_EVALUATION_BATCH = 256
_FORMS = (
    "Give (images, labels) arrays, a DataLoader, a folder of class folders, or Parquet "
    "with `image` and `label`."
)


class Batches(Protocol):
    """Data that can be gone through again and again, in batches of float images [B, ...] and labels
    [B].
    """

    def __len__(self) -> int:
        """Batches in one pass."""

    def shuffled(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass for training, in the order that the seed gives."""

    def ordered(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass for evaluation, always in the same order."""

    def split(self, share: float, seed: int) -> tuple[Batches, Batches]:
        """Two disjoint parts, the second with `share` of the images."""


class Indexable(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class ImageBatches:
    """Images in memory, or decoded into it on first use."""

    #: [N, ...] uint8 or floating
    images: Indexable
    #: [N] int64
    labels: Tensor
    batch_size: int = 128
    #: positions that belong to this part [n]
    index: Tensor
    #: subtracted and divided by, for each channel, after uint8 has become 0..1
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return max(1, len(self.index) // self.batch_size)

    def shuffled(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.index[
            torch.randperm(len(self.index), generator=torch.Generator().manual_seed(seed))
        ]
        # a short last batch would make batch statistics noisy: it is left out of this pass
        for at in range(0, len(self) * self.batch_size, self.batch_size):
            yield self._batch(order[at : at + self.batch_size])

    def ordered(self) -> Iterator[tuple[Tensor, Tensor]]:
        for part in torch.split(self.index, _EVALUATION_BATCH):
            yield self._batch(part)

    def split(self, share: float, seed: int) -> tuple[Batches, Batches]:
        """Stratified: every label keeps its share in both parts."""
        order = self.index[
            torch.randperm(len(self.index), generator=torch.Generator().manual_seed(seed))
        ]
        labels = self.labels[order]
        held_out = torch.zeros(len(order), dtype=torch.bool)
        for label in torch.unique(labels):
            where = torch.nonzero(labels == label).flatten()
            held_out[where[: round(len(where) * share)]] = True
        return replace(self, index=order[~held_out]), replace(self, index=order[held_out])

    def _batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        images = self.images[index]
        if images.dtype == torch.uint8:
            images = images.float() / 255
        if self.mean is not None and self.std is not None:
            shape = (1, -1, *[1] * (images.dim() - 2))
            images = (images - torch.tensor(self.mean).view(shape)) / torch.tensor(self.std).view(
                shape
            )
        return images.float(), self.labels[index]


class LoaderBatches:
    """A user's DataLoader. Its own order is used for training; the seed goes to its generator and
    to torch's.
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
        return self._pairs(self._loader)

    def ordered(self) -> Iterator[tuple[Tensor, Tensor]]:
        loader = self._like(self._loader.dataset, shuffle=False) if self._shuffles else self._loader
        return self._pairs(loader)

    def split(self, share: float, seed: int) -> tuple[Batches, Batches]:
        dataset = self._loader.dataset
        simple = isinstance(self._loader.sampler, (RandomSampler, SequentialSampler))
        if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized) or not simple:
            raise DataError(
                "This DataLoader cannot be split into training and validation data.",
                "Give validation data: `val_data`.",
            )
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed)).tolist()
        cut = round(len(order) * share)
        parts = Subset(dataset, order[cut:]), Subset(dataset, order[:cut])
        return LoaderBatches(self._like(parts[0], shuffle=True)), LoaderBatches(
            self._like(parts[1], shuffle=False)
        )

    def _like(self, dataset: Any, *, shuffle: bool) -> DataLoader[Any]:
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

    @staticmethod
    def _pairs(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in loader:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise DataError("The DataLoader does not give pairs of images and labels.", _FORMS)
            yield batch[0].float() if torch.is_tensor(batch[0]) else batch[0], batch[1]


def as_batches(
    data: Any,
    *,
    batch_size: int = 128,
    image_size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Batches:
    """Data of any accepted form, as batches.

    Args:
        data: ``(images, labels)`` arrays or tensors (uint8 images become 0..1, others are taken as
            they are), a DataLoader, a folder of class folders, a Parquet file, or a folder of
            Parquet files.
        image_size: pixels; scale and crop images of files to this square.
        mean, std: normalisation for each channel; DataLoaders do their own.

    Raises:
        DataError: it is none of these, cannot be read, or holds nothing.
    """
    if isinstance(data, (ImageBatches, LoaderBatches)):
        return data
    if isinstance(data, DataLoader):
        return LoaderBatches(data)
    if isinstance(data, ImageFiles):
        return as_batches(
            data.path,
            batch_size=batch_size,
            image_size=data.image_size,
            mean=data.mean,
            std=data.std,
        )
    if isinstance(data, (str, Path)):
        images, labels = _read(Path(data), image_size)
    elif isinstance(data, (tuple, list)) and len(data) == 2:
        images, labels = _arrays(*data)
    else:
        raise DataError(f"Data of type {type(data).__name__} are not understood.", _FORMS)
    if (mean is None) != (std is None):
        raise DataError(
            "Only one of mean and std is given.", "Give both, one number for each channel."
        )
    return ImageBatches(
        images=images,
        labels=labels,
        batch_size=batch_size,
        index=torch.arange(len(labels)),
        mean=mean,
        std=std,
    )


def first_images(data: Batches, count: int = 2) -> Tensor:
    """A few images [count, ...] to trace a model with.

    Raises:
        DataError: there are none.
    """
    for images, _ in data.ordered():
        return images[:count]
    raise DataError("The data hold no images.", _FORMS)


def check_fit(model: nn.Module, data: Batches, *, labels: bool = True) -> None:
    """Run a few images through the model, so that nothing starts that cannot end.

    Args:
        labels: whether the model has to be a classifier whose classes the labels are.

    Raises:
        DataError: the images do not fit the model's input, or the labels its output.
    """
    images, wanted = next(iter(data.ordered()), (torch.empty(0), torch.empty(0)))
    if not len(images):
        raise DataError("The data hold no images.", _FORMS)
    shape = "x".join(map(str, images.shape[1:]))
    was_training = model.training
    device = next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            answer = model(images[:2].to(device))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise DataError(
            f"Images of shape {shape} do not fit the model's input: {str(error).splitlines()[0]}.",
            "Give images of the shape that the model takes (channels first).",
        ) from error
    finally:
        model.train(was_training)
    if labels:
        _check_labels(answer, wanted)


def _check_labels(answer: Any, labels: Tensor) -> None:
    if not torch.is_tensor(answer) or answer.dim() != 2:
        found = f"shape {tuple(answer.shape)}" if torch.is_tensor(answer) else type(answer).__name__
        raise DataError(
            f"The model's output is {found}, not one score for each class.",
            "Only classifiers [B, classes] are trained.",
        )
    low = int(labels.min())
    high = int(labels.max())
    if labels.is_floating_point() or low < 0 or high >= answer.shape[1]:
        raise DataError(
            f"Labels from {low} to {high} do not fit the model's {answer.shape[1]} classes.",
            "Give whole numbers from 0 to the number of classes minus one.",
        )


def _arrays(images: Any, labels: Any) -> tuple[Tensor, Tensor]:
    try:
        x = torch.as_tensor(np.ascontiguousarray(images) if not torch.is_tensor(images) else images)
        y = torch.as_tensor(np.asarray(labels) if not torch.is_tensor(labels) else labels)
    except (TypeError, ValueError) as error:
        raise DataError(f"Images or labels are no arrays: {error}.", _FORMS) from error
    if y.dim() != 1 or x.dim() < 2 or len(x) != len(y) or not len(x):
        raise DataError(
            f"Images of shape {tuple(x.shape)} and labels of shape {tuple(y.shape)} do not "
            "belong together.",
            "Give images [N, C, H, W] and labels [N].",
        )
    if x.dtype != torch.uint8:
        x = x.float()
    return x, y if y.is_floating_point() else y.long()


def _read(path: Path, image_size: int | None) -> tuple[Indexable, Tensor]:
    if not path.exists():
        raise DataError(f"{path} does not exist.", _FORMS)
    tables = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if path.is_dir() and not tables:
        files, found, _ = list_folder(path)
        names = [str(file) for file in files]
        return EncodedImages(
            lambda at: files[at].read_bytes(), names, size=image_size
        ), torch.tensor(found)
    if any(file.suffix != ".parquet" for file in tables):
        raise DataError(f"{path} is no folder and no Parquet file.", _FORMS)
    return _read_parquet(tables, image_size)


def _read_parquet(files: list[Path], image_size: int | None) -> tuple[Indexable, Tensor]:
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    try:
        table = pyarrow.concat_tables(
            [pyarrow.parquet.read_table(file, columns=["image", "label"]) for file in files]
        )
        column = table.column("image").combine_chunks()
        labels = table.column("label").to_numpy()
        if pyarrow.types.is_struct(column.type):
            column = pyarrow.compute.struct_field(column, "bytes")
        if (
            not len(column)
            or column.null_count
            or not pyarrow.types.is_integer(table.column("label").type)
        ):
            raise DataError(
                f"{files[0]} holds no images, or labels that are no whole numbers.", _FORMS
            )
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{files[0]} cannot be read: {str(error).splitlines()[0]}.", _FORMS
        ) from error
    names = [
        f"row {row} of {files[0].parent if len(files) > 1 else files[0]}"
        for row in range(len(column))
    ]
    images = EncodedImages(lambda at: column[at].as_py(), names, size=image_size)
    return images, torch.as_tensor(np.array(labels, dtype=np.int64))
