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

from pruning_client.data.batch import ACCEPTED_FORMS
from pruning_client.errors import DataError


class ParquetFiles:
    """Images of the concatenated files, encoded, in memory.

    Attributes:
        labels: Labels [N].

    Raises:
        DataError: A file cannot be read, or has no images with integer labels.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        try:
            self._column, self.labels = _columns(files)
        except (OSError, KeyError, pyarrow.ArrowException) as error:
            raise DataError(
                f"{files[0]} cannot be read: {str(error).splitlines()[0]}.", ACCEPTED_FORMS
            ) from error
        self._source = files[0].parent if len(files) > 1 else files[0]

    def __len__(self) -> int:
        return len(self._column)

    def read(self, position: int) -> bytes:
        return bytes(self._column[position].as_py())

    def name(self, position: int) -> str:
        return f"row {position} of {self._source}"


def _columns(files: Sequence[Path]) -> tuple[pyarrow.ChunkedArray, Tensor]:
    table = pyarrow.concat_tables(
        [pyarrow.parquet.read_table(file, columns=["image", "label"]) for file in files]
    )
    images = table.column("image")
    labels = table.column("label").to_numpy()
    if pyarrow.types.is_struct(images.type):
        images = pyarrow.compute.struct_field(images, "bytes")
    has_integers = pyarrow.types.is_integer(table.column("label").type)
    if not len(images) or images.null_count or not has_integers:
        raise DataError(f"{files[0]} holds no images with integer labels.", ACCEPTED_FORMS)
    return images, torch.as_tensor(np.array(labels, dtype=np.int64))
