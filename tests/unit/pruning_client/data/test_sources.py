from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor

from pruning_client.data.batches import Batches
from pruning_client.data.sources import as_batches
from pruning_client.errors import DataError
from tests.support.tiny_networks import digits


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def first(data: Batches) -> tuple[Tensor, Any]:
    """Images and labels of the first batch."""
    batch = next(iter(data.ordered()))
    (images,) = batch.inputs
    return images, batch.target


def noise(count: int, shape: tuple[int, ...] = (8, 8)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number, pixels in enumerate(noise(6)):
            (tmp_path / label / f"{number}.png").write_bytes(encoded(pixels))
    return tmp_path


def write_parquet(path: Path, pixels: np.ndarray, labels: list[int]) -> Path:
    images = [{"bytes": encoded(p), "path": f"{i}.png"} for i, p in enumerate(pixels)]
    pq.write_table(pa.table({"image": images, "label": labels}), path)
    return path


def test_arrays_become_zero_to_one() -> None:
    images, labels = digits()
    x, y = first(as_batches((images.numpy(), labels.numpy())))
    assert x.dtype == torch.float32
    assert 0 <= float(x.min()) < float(x.max()) <= 1
    assert torch.equal(y, labels[: len(y)])


def test_folder_of_class_folders(folder: Path) -> None:
    x, y = first(as_batches(folder))
    assert x.shape == (12, 1, 8, 8)
    assert y.tolist() == [0] * 6 + [1] * 6
    torch.testing.assert_close(x[6, 0], torch.from_numpy(noise(6)[0]).float() / 255)


def test_images_of_other_sizes_need_a_size(folder: Path) -> None:
    (folder / "dog" / "9.png").write_bytes(encoded(noise(1, (9, 12))[0]))
    with pytest.raises(DataError, match="12x9 pixels, the first image 8x8") as caught:
        list(as_batches(folder).ordered())
    assert "--image-size" in caught.value.cure
    assert first(as_batches(folder, image_size=10))[0].shape == (13, 1, 10, 10)


def test_parquet_is_decoded_when_asked_for(tmp_path: Path) -> None:
    pixels = noise(5, (8, 8, 3))
    path = write_parquet(tmp_path / "a.parquet", pixels, [0, 1, 2, 1, 0])
    write_parquet(tmp_path / "b.parquet", pixels[:1], [2])
    x, y = first(as_batches(tmp_path))
    assert y.tolist() == [0, 1, 2, 1, 0, 2]
    torch.testing.assert_close(x[:5], torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    assert first(as_batches(path))[0].shape == (5, 3, 8, 8)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    images = [{"bytes": encoded(noise(1)[0]), "path": "a"}, {"bytes": b"no image", "path": "b"}]
    pq.write_table(pa.table({"image": images, "label": [0, 1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"row 1 of .* cannot be decoded"):
        list(as_batches(tmp_path / "a.parquet").ordered())


def bad_parquet(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"picture": [1]}), tmp_path / "bad.parquet")
    return tmp_path / "bad.parquet"


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda tmp: tmp / "nowhere", "does not exist"),
        (lambda tmp: tmp, "no class folders"),
        (bad_parquet, "cannot be read"),
        (lambda tmp: Path(__file__), "neither a folder nor a Parquet"),
        (lambda tmp: 7, "int are not supported"),
        (lambda tmp: (np.zeros((3, 1, 8, 8)), np.zeros(4)), "do not match"),
        (lambda tmp: (np.zeros((0, 1, 8, 8)), np.zeros(0)), "do not match"),
    ],
)
def test_what_cannot_be_read(make: object, cause: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=cause) as caught:
        as_batches(make(tmp_path))  # type: ignore[operator]
    assert caught.value.cure
    assert caught.value.exit_code == 6
