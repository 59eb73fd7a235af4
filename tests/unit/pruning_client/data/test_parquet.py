"""Images in Parquet files larger than memory: what is held, what is read, and in which order."""

from __future__ import annotations

import copy
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pruning_client.data.file_batches import FileBatches
from pruning_client.data.images import EncodedImages
from pruning_client.data.parquet import ParquetFiles
from pruning_client.data.sources import as_batches
from pruning_client.errors import DataError

ROWS = 10
GROUPS = 24


def image(number: int) -> bytes:
    """An image of noise whose first pixel is its number."""
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
    pixels[0, 0] = number
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(path: Path, numbers: range, *, rows: int = ROWS) -> Path:
    images = [{"bytes": image(number), "path": f"{number}.png"} for number in numbers]
    table = pa.table({"image": images, "label": [number % 3 for number in numbers]})
    pq.write_table(table, path, row_group_size=rows)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("parquet") / "many.parquet", range(ROWS * GROUPS))


class Watched(ParquetFiles):
    """Records what is held after each image, and the row groups that are read."""

    def __init__(self, path: Path, window_bytes: int) -> None:
        super().__init__([path], window_bytes=window_bytes)
        self.most_bytes = 0
        self.loads: Counter[int] = Counter()

    def read(self, position: int) -> bytes:
        number = int(np.searchsorted(self._starts, position, side="right")) - 1
        self.loads[number] += number not in self._held
        found = super().read(position)
        self.most_bytes = max(self.most_bytes, self.held_bytes)
        return found


def three_groups(path: Path) -> int:
    """Size of a window that three row groups fit into."""
    sizes = [group.size_bytes for group in ParquetFiles([path]).row_groups]
    return 3 * max(sizes)


def batches(files: ParquetFiles, *, workers: int = 0) -> FileBatches:
    return FileBatches(
        images=EncodedImages(files, files.labels),
        batch_size=12,
        index=torch.arange(len(files)),
        augment=False,
        workers=workers,
    )


def numbers(data: FileBatches, seed: int | None) -> list[int]:
    """Numbers of the images of a pass."""
    found = data.ordered() if seed is None else data.shuffled(seed)
    return [round(255 * float(x)) for batch in found for x in batch.inputs[0][:, 0, 0, 0]]


def test_a_pass_sees_each_image_once_with_little_in_memory(path: Path) -> None:
    files = Watched(path, three_groups(path))
    data = batches(files)
    files.loads.clear()
    for seed in (0, 1, None):
        files.loads.clear()
        assert sorted(numbers(data, seed)) == list(range(ROWS * GROUPS))
        assert max(files.loads.values()) == 1, "no row group is read twice in a pass"
    assert 0 < files.most_bytes <= three_groups(path)
    assert files.most_bytes < sum(group.size_bytes for group in files.row_groups) / 4


def test_the_order_is_that_of_the_seed(path: Path) -> None:
    data = batches(ParquetFiles([path], window_bytes=three_groups(path)))
    first = numbers(data, 5)
    assert first == numbers(data, 5) == numbers(data, 5)
    helped = batches(ParquetFiles([path], window_bytes=three_groups(path)), workers=2)
    assert first == numbers(helped, 5)
    assert first != numbers(data, 6)
    assert len({number // ROWS for number in first[:ROWS]}) == 3, "mixed within a window"
    assert numbers(data, None) == list(range(ROWS * GROUPS))


def test_parts_of_a_split_read_each_row_group_once(path: Path) -> None:
    files = Watched(path, three_groups(path))
    train, held_out = batches(files).split(0.25, 0)
    assert isinstance(train, FileBatches)
    assert isinstance(held_out, FileBatches)
    files.loads.clear()
    seen = numbers(held_out, None)
    assert max(files.loads.values()) == 1
    assert sorted(seen + numbers(train, None)) == list(range(ROWS * GROUPS))


def test_a_folder_of_files_is_one_data_set(tmp_path: Path) -> None:
    for part in range(4):
        write(tmp_path / f"train-{part}.parquet", range(part * 20, part * 20 + 20), rows=7)
    data = as_batches(tmp_path, batch_size=20)
    assert isinstance(data, FileBatches)
    assert numbers(data, None) == list(range(80))
    assert sorted(numbers(replace(data, augment=False), 3)) == list(range(80))
    assert next(iter(data.ordered())).target[:4].tolist() == [0, 1, 2, 0]


def test_one_large_row_group_is_copied_in_smaller_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "one.parquet", range(200), rows=1000)
    (whole,) = ParquetFiles([path]).row_groups
    files = Watched(path, whole.size_bytes // 4)
    scratch = files.row_groups[0].file.parent
    data = batches(files)
    assert len(files.row_groups) > 32
    assert sorted(numbers(data, 1)) == sorted(set(numbers(data, 1)))
    assert numbers(data, None) == list(range(200))
    assert files.most_bytes <= whole.size_bytes // 4
    assert files.labels.tolist() == [number % 3 for number in range(200)]
    assert scratch.exists()
    del data, files
    assert not scratch.exists()


def test_what_is_sent_to_a_process_holds_no_images(path: Path) -> None:
    files = ParquetFiles([path])
    content = files.read(0)
    assert files.held_bytes
    sent = copy.copy(files)  # of the state that pickle sends
    assert sent.held_bytes == 0
    assert sent.read(0) == content


def test_a_row_without_an_image_is_named(tmp_path: Path) -> None:
    table = pa.table({"image": [image(0), None], "label": [0, 1]})
    pq.write_table(table, tmp_path / "a.parquet", write_statistics=False)
    with pytest.raises(DataError, match=r"row 1 of .* holds no image") as caught:
        list(as_batches(tmp_path / "a.parquet").ordered())
    assert caught.value.cure
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="holds no images"):
        as_batches(tmp_path / "a.parquet")


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    files = ParquetFiles([write(tmp_path / "a.parquet", range(20))])
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(DataError, match=r"Row group 1 of .*a\.parquet cannot be read") as caught:
        files.read(15)
    assert "while a job runs" in caught.value.cure


@pytest.mark.parametrize("labels", [["cat", "dog"], [0, None], [0.5, 1.0]])
def test_labels_that_are_no_integers(tmp_path: Path, labels: list[object]) -> None:
    pq.write_table(
        pa.table({"image": [image(0), image(1)], "label": labels}), tmp_path / "a.parquet"
    )
    with pytest.raises(DataError, match="no images with integer labels"):
        as_batches(tmp_path / "a.parquet")
