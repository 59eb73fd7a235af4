"""Batches from every accepted source: arrays, loaders, data sets, folders of images, Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, IterableDataset

from pruning_client.data.batch import ACCEPTED_FORMS, pick_pair
from pruning_client.data.batches import Batches, ImageBatches, LoaderBatches
from pruning_client.data.file_batches import FileBatches
from pruning_client.data.files import ImageFiles
from pruning_client.data.images import EncodedImages, FolderFiles, Preparation
from pruning_client.data.samples import PickedDataset, Samples
from pruning_client.errors import DataError

#: Samples whose values are checked at a time.
_CHECKED_AT_ONCE = 1024
#: Samples per training batch where there are many.
_LARGEST_BATCH = 128
#: Number of batches in an epoch for which batches are made smaller, and the smallest batch [ours].
_BATCHES = 16
_SMALLEST_BATCH = 32


def as_batches(
    data: Any,
    *,
    batch_size: int | None = 128,
    image_size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    names: Sequence[str] = (),
    channels: int | None = None,
) -> Batches:
    """Convert data of any accepted form to batches.

    Args:
        data: ``(images, labels)`` arrays or tensors, or a dictionary of them (uint8 images are
            scaled to 0..1, others are used as they are), several inputs in a tuple in place of the
            images, a DataLoader, a data set with positions (torch, Hugging Face), `Samples` of one
            of the two, a folder of class folders, a Parquet file, a folder of Parquet files, or
            `ImageFiles`.
        batch_size: Samples per training batch; None for `usual_batch_size`.
        image_size: Side in pixels of the square to which images of files are scaled and cropped.
        mean, std: Normalisation of each channel of arrays and files. Loaders and data sets do
            their own.
        names: Parameters of the network's forward pass, for inputs in dictionaries.
        channels: Channels of the images that the network takes, 1 for grey or 3; by default those
            of the first image.

    Raises:
        DataError: The data have none of these forms, cannot be read, or are empty.
    """
    if isinstance(data, (ImageBatches, LoaderBatches, FileBatches)):
        return data
    if isinstance(data, (str, Path)):
        data = ImageFiles(path=Path(data), image_size=image_size, mean=mean, std=std)
    if isinstance(data, ImageFiles):
        return _of_files(data, batch_size, channels=channels)
    if isinstance(data, Samples):
        return _of_samples(data, batch_size, names, channels)
    if isinstance(data, list) and _are_pairs(data):
        return _of_samples(Samples(data, image_size=image_size), batch_size, names, channels)
    if isinstance(data, Mapping):
        data = pick_pair(data)
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return _of_arrays(*data, batch_size=batch_size, mean=mean, std=std)
    if isinstance(data, DataLoader) or _has_positions(data):
        return _of_samples(Samples(data, image_size=image_size), batch_size, names, channels)
    raise DataError(f"Data of type {type(data).__name__} are not supported.", ACCEPTED_FORMS)


def usual_batch_size(samples: int) -> int:
    """Samples per training batch: 128, or fewer where there are few samples, so that an epoch has
    more than a few steps.
    """
    size = _LARGEST_BATCH
    while size > _SMALLEST_BATCH and samples < _BATCHES * size:
        size //= 2
    return size


def _size(given: int | None, samples: int) -> int:
    return usual_batch_size(samples) if given is None else given


def like(
    batches: Batches,
    data: Any,
    *,
    batch_size: int | None,
    names: Sequence[str],
    channels: int | None = None,
) -> Batches:
    """Held-out data: as `as_batches`. Files get the classes of the training files, and those given
    by their path alone their size, transform and normalisation.

    Raises:
        DataError: They hold a class that the training data do not have, or their transform returns
            other images each time.
    """
    if isinstance(batches, FileBatches):
        if isinstance(data, (str, Path)):
            own = batches.images.preparation
            data = ImageFiles(
                path=Path(data),
                image_size=own.size,
                transform=own.transform,
                mean=batches.mean,
                std=batches.std,
            )
        if isinstance(data, ImageFiles):
            held_out = _of_files(data, batch_size, batches.classes or None, channels)
            held_out.check_steady()
            return held_out
    return as_batches(data, batch_size=batch_size, names=names, channels=channels)


def _of_samples(
    samples: Samples, batch_size: int | None, names: Sequence[str], channels: int | None
) -> LoaderBatches:
    loader = samples.data
    if isinstance(loader, DataLoader):
        return LoaderBatches(loader, samples.picked, names)
    if not _has_positions(loader) and not isinstance(loader, list):
        raise DataError(
            f"Samples of type {type(loader).__name__} have no positions.", ACCEPTED_FORMS
        )
    if not len(loader):
        raise DataError("The data set is empty.", ACCEPTED_FORMS)
    dataset = PickedDataset(samples, channels)
    picked = DataLoader(dataset, batch_size=_size(batch_size, len(dataset)), shuffle=True)
    return LoaderBatches(picked, pick_pair, names)


def _are_pairs(data: list[Any]) -> bool:
    """Whether a list holds samples, and not images and labels."""
    return len(data) > 2 and all(
        isinstance(sample, (tuple, list, Mapping)) and len(sample) >= 2 for sample in data
    )


def _has_positions(data: Any) -> bool:
    """Whether data are a data set that is read by position."""
    return (
        hasattr(data, "__len__")
        and hasattr(data, "__getitem__")
        and not isinstance(data, (Mapping, IterableDataset, tuple, list, str, bytes))
        and not torch.is_tensor(data)
        and not isinstance(data, np.ndarray)
    )


def _of_files(
    files: ImageFiles,
    batch_size: int | None,
    classes: Sequence[str] | None = None,
    channels: int | None = None,
) -> FileBatches:
    _check_normalisation(files.mean, files.std, channels)
    source = _open(Path(files.path), files.classes or classes)
    return FileBatches(
        images=EncodedImages(
            source,
            source.labels,
            Preparation(
                size=files.image_size,
                transform=files.transform,
                train_transform=files.train_transform,
                channels=channels,
            ),
        ),
        classes=getattr(source, "classes", ()),
        batch_size=_size(batch_size, len(source)),
        index=torch.arange(len(source)),
        mean=files.mean,
        std=files.std,
        augment=files.augment or bool(files.train_transform or files.transform),
        workers=files.workers,
    )


def _open(path: Path, classes: Sequence[str] | None) -> Any:
    if not path.exists():
        raise DataError(f"{path} does not exist.", ACCEPTED_FORMS)
    tables = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not tables:
        return FolderFiles(path, classes)
    if any(file.suffix != ".parquet" for file in tables):
        raise DataError(f"{path} is neither a folder nor a Parquet file.", ACCEPTED_FORMS)
    # only Parquet data pay for the import of pyarrow
    from pruning_client.data.parquet import ParquetFiles

    return ParquetFiles(tables)


def _of_arrays(
    inputs: Any,
    target: Any,
    *,
    batch_size: int | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> Batches:
    _check_normalisation(mean, std)
    inputs, target = _stacked(inputs, target)
    several = isinstance(inputs, (tuple, list)) and all(np.ndim(x) >= 2 for x in inputs)
    images = tuple(map(_as_tensor, inputs if several else (inputs,)))
    labels = pytree.tree_map(_as_tensor, target) if _is_structure(target) else _as_tensor(target)
    lengths = {len(x) if x.dim() else 0 for x in (*images, *pytree.tree_leaves(labels))}
    if min(x.dim() for x in images) < 2 or len(lengths) > 1 or not min(lengths):
        shapes = [tuple(x.shape) for x in (*images, *pytree.tree_leaves(labels))]
        raise DataError(
            f"Images of shape {shapes[0]} and labels of shape {shapes[-1]} do not match.",
            "Give images [N, C, H, W] and labels [N].",
        )
    for name, values in (("Images", images), ("Labels", pytree.tree_leaves(labels))):
        _check_finite(name, values)
    return ImageBatches(
        inputs=images,
        target=labels,
        batch_size=_size(batch_size, len(images[0])),
        index=torch.arange(len(images[0])),
        mean=mean,
        std=std,
    )


def _stacked(inputs: Any, target: Any) -> tuple[Any, Any]:
    """Lists of images and of labels, one for each sample, as arrays."""
    if isinstance(target, list) and target and all(np.ndim(x) == 0 for x in target):
        target = np.array(target)
    if isinstance(inputs, list) and len(inputs) == _length(target):
        shapes = {np.shape(x) for x in inputs}
        if len(shapes) == 1 and len(next(iter(shapes))) in (2, 3):
            inputs = np.stack([np.asarray(x) for x in inputs])
    return inputs, target


def _length(target: Any) -> int:
    leaves = pytree.tree_leaves(target)
    return np.shape(leaves[0])[0] if leaves and np.ndim(leaves[0]) else -1


def _is_structure(target: Any) -> bool:
    """Whether a target is several arrays."""
    if isinstance(target, Mapping):
        return True
    return isinstance(target, (tuple, list)) and all(
        torch.is_tensor(x) or isinstance(x, np.ndarray) for x in target
    )


def _as_tensor(values: Any) -> Tensor:
    try:
        found = values if torch.is_tensor(values) else torch.as_tensor(np.ascontiguousarray(values))
    except (TypeError, ValueError) as error:
        raise DataError(f"Images or labels are not arrays: {error}.", ACCEPTED_FORMS) from error
    return found.float() if found.dtype in (torch.float64, torch.float16) else found


def _check_finite(what: str, arrays: Sequence[Tensor]) -> None:
    for values in arrays:
        if not values.is_floating_point():
            continue
        for begin in range(0, len(values), _CHECKED_AT_ONCE):
            part = values[begin : begin + _CHECKED_AT_ONCE]
            if not bool(torch.isfinite(part).all()):
                bad = begin + int(
                    (~torch.isfinite(part)).reshape(len(part), -1).any(1).nonzero()[0]
                )
                raise DataError(
                    f"{what} hold values that are not finite, first in sample {bad}.",
                    "Remove or repair these samples.",
                )


def _check_normalisation(mean: Any, std: Any, channels: int | None = None) -> None:
    if (mean is None) != (std is None):
        raise DataError(
            "Only one of mean and std is given.", "Give both, one number for each channel."
        )
    if mean is None:
        return
    counts = {len(mean), len(std)} | ({channels} if channels else set())
    if len(counts) > 1 or not all(value > 0 for value in std):
        raise DataError(
            f"Mean {tuple(mean)} and std {tuple(std)} do not fit images"
            f"{f' of {channels} channels' if channels else ''}.",
            "Give one number for each channel, and standard deviations above 0.",
        )
