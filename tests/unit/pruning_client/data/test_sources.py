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


def test_values_that_are_not_finite_are_found_in_arrays() -> None:
    images = np.random.default_rng(0).random((1500, 1, 2, 2), dtype=np.float32)
    images[1300, 0, 1, 1] = np.nan
    with pytest.raises(DataError, match="Images hold values that are not finite, first in sample"):
        as_batches((images, np.zeros(1500, np.int64)))
    with pytest.raises(DataError, match=r"Labels .* sample 3\."):
        as_batches((np.zeros((5, 1, 2, 2)), np.array([0, 1, 2, np.inf, 4])))


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5,)), ((0, 0, 0), (1, 1, 0))])
def test_mean_and_std_have_one_number_for_each_channel(
    tmp_path: Path, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "0.png")
    with pytest.raises(DataError, match="do not fit images of 3 channels"):
        as_batches(tmp_path, mean=mean, std=std, channels=3)


def test_classes_may_begin_with_underscores_and_folders_may_be_links(tmp_path: Path) -> None:
    folder, other = tmp_path / "data", tmp_path / "other"
    for name in ("__background__", "cat", "__pycache__"):
        (folder / name).mkdir(parents=True)
    other.mkdir()
    Image.new("RGB", (4, 4)).save(other / "1.png")
    for name in ("__background__", "__pycache__"):
        Image.new("RGB", (4, 4)).save(folder / name / "0.png")
    (folder / "cat" / "more").symlink_to(other)
    (folder / "cat" / "again").symlink_to(folder / "cat")
    found = as_batches(folder)
    assert found.classes == ("__background__", "cat")
    assert found.images.labels.tolist() == [0, 1]


def test_the_first_file_may_be_grey(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (4, 4), 7).save(tmp_path / "a" / "0.png")
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "a" / "1.png")
    batch = next(iter(as_batches(tmp_path, channels=3).ordered()))
    assert batch.inputs[0].shape == (2, 3, 4, 4)


def test_floating_point_pictures_keep_their_brightness(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "a" / "0.tiff")
    batch = next(iter(as_batches(tmp_path).ordered()))
    assert batch.inputs[0].mean() == pytest.approx(0.5, abs=0.01)


def test_lists_of_images_and_dictionaries_of_arrays_are_arrays() -> None:
    images, labels = np.random.default_rng(0).random((8, 1, 4, 4), np.float32), np.arange(8)
    forms: list[Any] = [
        (list(images), labels),
        (list(torch.from_numpy(images)), [torch.tensor(at) for at in labels]),
        {"image": images, "label": labels},
    ]
    for form in forms:
        batch = next(iter(as_batches(form).ordered()))
        assert np.allclose(batch.inputs[0], images)
        assert batch.target.tolist() == labels.tolist()


def test_an_empty_file_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png is empty"):
        as_batches(tmp_path)


def test_a_link_to_an_image_that_is_not_there_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "1.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(DataError, match=r"1\.png cannot be read: No such file"):
        as_batches(tmp_path)


def test_parquet_with_paths_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "label": [0, 1]}), path)
    with pytest.raises(DataError, match="`image` of the Parquet data holds text"):
        as_batches(path)
