"""Batches from every accepted source: arrays, a DataLoader, a folder of class folders, or Parquet
files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pruning_client.data.batches import (
    ACCEPTED_FORMS,
    Batches,
    ImageBatches,
    Indexable,
    LoaderBatches,
)
from pruning_client.data.files import ImageFiles
from pruning_client.data.images import EncodedImages, list_folder
from pruning_client.errors import DataError


def as_batches(
    data: Any,
    *,
    batch_size: int = 128,
    image_size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Batches:
    """Convert data of any accepted form to batches.

    Args:
        data: ``(images, labels)`` arrays or tensors (uint8 images are scaled to 0..1, others are
            used as they are), a DataLoader, a folder of class folders, a Parquet file, or a folder
            of Parquet files.
        image_size: Side in pixels of the square to which images of files are scaled and cropped.
        mean, std: Normalisation of each channel. A DataLoader does its own.

    Raises:
        DataError: The data have none of these forms, cannot be read, or are empty.
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
    images, labels = _read(data, image_size)
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


def _read(data: Any, image_size: int | None) -> tuple[Indexable, Tensor]:
    if isinstance(data, (str, Path)):
        return _read_files(Path(data), image_size)
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return _from_arrays(*data)
    raise DataError(f"Data of type {type(data).__name__} are not supported.", ACCEPTED_FORMS)


def _read_files(path: Path, image_size: int | None) -> tuple[Indexable, Tensor]:
    if not path.exists():
        raise DataError(f"{path} does not exist.", ACCEPTED_FORMS)
    tables = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not tables:
        return _read_class_folders(path, image_size)
    if any(file.suffix != ".parquet" for file in tables):
        raise DataError(f"{path} is neither a folder nor a Parquet file.", ACCEPTED_FORMS)
    # only Parquet data pay for the import of pyarrow
    from pruning_client.data.parquet import read_parquet

    return read_parquet(tables, image_size)


def _read_class_folders(folder: Path, image_size: int | None) -> tuple[EncodedImages, Tensor]:
    files, labels, _ = list_folder(folder)
    names = [str(file) for file in files]
    images = EncodedImages(lambda at: files[at].read_bytes(), names, size=image_size)
    return images, torch.tensor(labels)


def _from_arrays(images: Any, labels: Any) -> tuple[Tensor, Tensor]:
    try:
        x = torch.as_tensor(np.ascontiguousarray(images) if not torch.is_tensor(images) else images)
        y = torch.as_tensor(np.asarray(labels) if not torch.is_tensor(labels) else labels)
    except (TypeError, ValueError) as error:
        raise DataError(f"Images or labels are not arrays: {error}.", ACCEPTED_FORMS) from error
    if y.dim() != 1 or x.dim() < 2 or len(x) != len(y) or not len(x):
        raise DataError(
            f"Images of shape {tuple(x.shape)} and labels of shape {tuple(y.shape)} do not match.",
            "Give images [N, C, H, W] and labels [N].",
        )
    return (
        x if x.dtype == torch.uint8 else x.float(),
        y if y.is_floating_point() else y.long(),
    )
