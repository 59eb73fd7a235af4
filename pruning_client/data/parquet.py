"""Encoded images in Parquet files, with columns `image` and `label`, read when they are needed.

Memory holds the labels, the position of every row group, and the images of a few row groups for
each process that reads. The order of a pass is therefore random within windows: row groups are
shuffled, consecutive ones form a window of at most `WINDOW_BYTES`, and the images of a window are
shuffled together. Data of at most that size are one window, shuffled as a whole.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
import torch
from torch import Tensor

from pruning_client.data.batch import ACCEPTED_FORMS
from pruning_client.data.batches import permutation
from pruning_client.errors import DataError, first_line

#: Encoded images that a process holds at most.
WINDOW_BYTES = 256 * 2**20
#: Larger row groups are copied, in row groups of this size, to the temporary folder.
_PIECES = 16
#: Rows that are copied at once.
_COPIED_ROWS = 32
_READ_AHEAD_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """Rows of a file that are read together."""

    file: Path
    #: Position in the file.
    index: int
    rows: int
    #: Encoded images, uncompressed.
    size_bytes: int


class ParquetFiles:
    """Images of the concatenated files, encoded; at most `window_bytes` of them in memory.

    A row group that is larger is copied in smaller ones to a temporary folder, which is deleted
    with this object.

    Attributes:
        labels: Labels [N].
        row_groups: Row groups in the order of the images.

    Raises:
        DataError: A file cannot be read, or has no images with integer labels.
    """

    def __init__(self, files: Sequence[Path], *, window_bytes: int = WINDOW_BYTES) -> None:
        self._window_bytes = window_bytes
        self._source = files[0].parent if len(files) > 1 else files[0]
        self._held: OrderedDict[int, pyarrow.ChunkedArray] = OrderedDict()
        self._scratch: Path | None = None
        self.row_groups: list[RowGroup] = []
        labels = []
        for file in files:
            try:
                labels.append(_labels(file))
                self.row_groups += self._in_small_groups(_row_groups(file))
            except (OSError, KeyError, pyarrow.ArrowException) as error:
                raise DataError(
                    f"{file} cannot be read: {first_line(error)}.", ACCEPTED_FORMS
                ) from error
        self.labels = torch.cat(labels)
        if not len(self.labels):
            raise _without_images(files[0])
        self._starts = np.cumsum([0, *(group.rows for group in self.row_groups)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        # processes that are sent the files read for themselves
        return self.__dict__ | {"_held": OrderedDict()}

    @property
    def held_bytes(self) -> int:
        """Encoded images in the memory of this process."""
        return sum(images.nbytes for images in self._held.values())

    def read(self, position: int) -> bytes:
        """Content of an image file.

        Raises:
            DataError: It is missing, or its row group cannot be read.
        """
        number = int(np.searchsorted(self._starts, position, side="right")) - 1
        image = self._images(number)[position - int(self._starts[number])].as_py()
        if image is None:
            raise DataError(f"{self.name(position)} holds no image.", "Remove the row.")
        return bytes(image)

    def name(self, position: int) -> str:
        return f"row {position} of {self._source}"

    def windows(self, seed: int | None) -> Tensor:
        """Number of each image's window [N], in the order of a seed, or of the files for None."""
        count = len(self.row_groups)
        order = range(count) if seed is None else permutation(count, seed).tolist()
        windows = np.zeros(count, np.int64)
        window = size_bytes = 0
        for number in order:
            group_bytes = self.row_groups[number].size_bytes
            if size_bytes and size_bytes + group_bytes > self._window_bytes:
                window += 1
                size_bytes = 0
            size_bytes += group_bytes
            windows[number] = window
        return torch.from_numpy(np.repeat(windows, np.diff(self._starts)))

    def _images(self, number: int) -> pyarrow.ChunkedArray:
        """Images of a row group; those not used for longest are dropped for it."""
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        group = self.row_groups[number]
        while self._held and self.held_bytes + group.size_bytes > self._window_bytes:
            self._held.popitem(last=False)
        try:
            with _opened(group.file) as file:
                table = file.read_row_group(
                    group.index, columns=[_image_column(file)], use_threads=False
                )
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(
                f"Row group {group.index} of {group.file} cannot be read: {first_line(error)}.",
                "Leave the files as they are while a job runs; if it is damaged, write it again.",
            ) from error
        self._held[number] = _encoded(table.column("image"))
        return self._held[number]

    def _in_small_groups(self, groups: list[RowGroup]) -> list[RowGroup]:
        small = []
        for group in groups:
            fits = group.size_bytes <= self._window_bytes
            small += [group] if fits else self._copied(group)
        return small

    def _copied(self, group: RowGroup) -> list[RowGroup]:
        """A large row group in smaller ones, in a file of the temporary folder."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="pruning-client-"))
            weakref.finalize(self, _remove, self._scratch, os.getpid())
        copy = self._scratch / f"{len(list(self._scratch.iterdir()))}.parquet"
        rows = max(1, group.rows * self._window_bytes // (group.size_bytes * _PIECES))
        with _opened(group.file) as file:
            column = _image_column(file)
            batches = file.iter_batches(
                min(rows, _COPIED_ROWS), [group.index], [column], use_threads=False
            )
            _write(copy, batches, rows)
        return _row_groups(copy)


def _write(path: Path, batches: Any, rows: int) -> None:
    """Write the images of batches of rows, in row groups of at least `rows` rows."""
    schema = pyarrow.schema([("image", pyarrow.large_binary())])
    with pyarrow.parquet.ParquetWriter(
        path, schema, compression="none", use_dictionary=False, write_statistics=False
    ) as writer:
        waiting: list[pyarrow.Array] = []
        for batch in batches:
            waiting += _encoded(pyarrow.Table.from_batches([batch]).column("image")).chunks
            if sum(map(len, waiting)) >= rows:
                _write_group(writer, waiting)
                waiting = []
        if waiting:
            _write_group(writer, waiting)


def _write_group(writer: pyarrow.parquet.ParquetWriter, images: list[pyarrow.Array]) -> None:
    column = pyarrow.chunked_array(images).cast(pyarrow.large_binary())
    writer.write_table(pyarrow.table({"image": column}), row_group_size=len(column))


def _remove(folder: Path, owner: int) -> None:
    # worker processes have copies of the object that owns the folder
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _opened(path: Path) -> pyarrow.parquet.ParquetFile:
    """A file that is read page by page, not a whole column at once."""
    return pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_READ_AHEAD_BYTES)


def _image_column(file: pyarrow.parquet.ParquetFile) -> str:
    """Name of the column of encoded images; Hugging Face's are structures of `bytes` and `path`."""
    kind = file.schema_arrow.field("image").type
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        raise DataError(
            "The column `image` of the Parquet data holds text.",
            "Store the encoded images themselves, or give the folder of the files.",
        )
    return "image.bytes" if pyarrow.types.is_struct(kind) else "image"


def _encoded(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    is_struct = pyarrow.types.is_struct(column.type)
    return pyarrow.compute.struct_field(column, "bytes") if is_struct else column


def _labels(path: Path) -> Tensor:
    with _opened(path) as file:
        column = file.read(columns=["label"], use_threads=False).column("label")
    if column.null_count or not pyarrow.types.is_integer(column.type):
        raise _without_images(path)
    return torch.as_tensor(np.array(column.to_numpy(), dtype=np.int64))


def _row_groups(path: Path) -> list[RowGroup]:
    with _opened(path) as file:
        wanted = _image_column(file)
        groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    found = []
    for index, group in enumerate(groups):
        columns = [group.column(number) for number in range(group.num_columns)]
        images = next((c for c in columns if c.path_in_schema == wanted), None)
        if images is None or (images.statistics and images.statistics.null_count):
            raise _without_images(path)
        found.append(
            RowGroup(
                file=path,
                index=index,
                rows=group.num_rows,
                size_bytes=images.total_uncompressed_size,
            )
        )
    return found


def _without_images(path: Path) -> DataError:
    return DataError(f"{path} holds no images with integer labels.", ACCEPTED_FORMS)
