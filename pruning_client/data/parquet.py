"""Encoded images in Parquet files, with columns `image` and `label`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
import torch
from torch import Tensor

from pruning_client.data.batches import ACCEPTED_FORMS
from pruning_client.data.images import EncodedImages
from pruning_client.errors import DataError


def read_parquet(files: Sequence[Path], image_size: int | None) -> tuple[EncodedImages, Tensor]:
    """Images of the concatenated files, decoded on first use, and their labels [N].

    Args:
        image_size: Side in pixels of the square to which images are scaled and cropped.

    Raises:
        DataError: A file cannot be read, or has no images with integer labels.
    """
    try:
        column, labels = _columns(files)
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{files[0]} cannot be read: {str(error).splitlines()[0]}.", ACCEPTED_FORMS
        ) from error
    source = files[0].parent if len(files) > 1 else files[0]
    names = [f"row {row} of {source}" for row in range(len(column))]
    return EncodedImages(lambda at: column[at].as_py(), names, size=image_size), labels


def _columns(files: Sequence[Path]) -> tuple[pyarrow.Array, Tensor]:
    table = pyarrow.concat_tables(
        [pyarrow.parquet.read_table(file, columns=["image", "label"]) for file in files]
    )
    images = table.column("image").combine_chunks()
    labels = table.column("label").to_numpy()
    if pyarrow.types.is_struct(images.type):
        images = pyarrow.compute.struct_field(images, "bytes")
    has_integers = pyarrow.types.is_integer(table.column("label").type)
    if not len(images) or images.null_count or not has_integers:
        raise DataError(f"{files[0]} holds no images with integer labels.", ACCEPTED_FORMS)
    return images, torch.as_tensor(np.array(labels, dtype=np.int64))
