from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from pruning_client.data.batches import as_batches, check_fit, first_images
from pruning_client.errors import DataError
from tests.support.tiny_networks import digits, tiny_net


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


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
    x, y = next(as_batches((images.numpy(), labels.numpy())).ordered())
    assert x.dtype == torch.float32
    assert 0 <= float(x.min()) < float(x.max()) <= 1
    assert torch.equal(y, labels[: len(y)])


def test_normalisation() -> None:
    x, _ = next(as_batches((noise(8)[:, None], np.arange(8)), mean=(0.5,), std=(0.25,)).ordered())
    torch.testing.assert_close(x, (torch.from_numpy(noise(8)[:, None]).float() / 255 - 0.5) / 0.25)


def test_shuffled_by_seed_alone() -> None:
    data = as_batches(digits(), batch_size=64)
    first, again, other = ([y for _, y in data.shuffled(seed)] for seed in (1, 1, 2))
    assert len(first) == len(data) == 1797 // 64
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_split_is_stratified_and_disjoint() -> None:
    train, held_out = as_batches(digits()).split(0.2, seed=3)
    parts = [torch.cat([y for _, y in part.ordered()]) for part in (train, held_out)]
    assert len(parts[0]) + len(parts[1]) == 1797
    for label in range(10):
        share = int((parts[1] == label).sum()) / int(sum((p == label).sum() for p in parts))
        assert share == pytest.approx(0.2, abs=0.01)


def test_loader_splits_and_keeps_its_batches() -> None:
    images, labels = digits()
    loader = DataLoader(TensorDataset(images.float(), labels), batch_size=50, shuffle=True)
    train, held_out = as_batches(loader).split(0.2, seed=0)
    assert sum(len(y) for _, y in held_out.ordered()) == round(0.2 * 1797)
    assert next(len(y) for _, y in train.shuffled(0)) == 50
    same = [torch.cat([y for _, y in train.shuffled(5)]) for _ in range(2)]
    assert torch.equal(*same)


def test_folder_of_class_folders(folder: Path) -> None:
    data = as_batches(folder)
    x, y = next(data.ordered())
    assert x.shape == (12, 1, 8, 8)
    assert y.tolist() == [0] * 6 + [1] * 6
    torch.testing.assert_close(x[6, 0], torch.from_numpy(noise(6)[0]).float() / 255)


def test_images_of_other_sizes_need_a_size(folder: Path) -> None:
    (folder / "dog" / "9.png").write_bytes(encoded(noise(1, (9, 12))[0]))
    with pytest.raises(DataError, match="12x9 pixels, the first image 8x8") as caught:
        list(as_batches(folder).ordered())
    assert "--image-size" in caught.value.cure
    assert next(as_batches(folder, image_size=10).ordered())[0].shape == (13, 1, 10, 10)


def test_parquet_is_decoded_when_asked_for(tmp_path: Path) -> None:
    pixels = noise(5, (8, 8, 3))
    path = write_parquet(tmp_path / "a.parquet", pixels, [0, 1, 2, 1, 0])
    write_parquet(tmp_path / "b.parquet", pixels[:1], [2])
    x, y = next(as_batches(tmp_path).ordered())
    assert y.tolist() == [0, 1, 2, 1, 0, 2]
    torch.testing.assert_close(x[:5], torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    assert next(as_batches(path).ordered())[0].shape == (5, 3, 8, 8)


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
        (lambda tmp: Path(__file__), "no folder and no Parquet"),
        (lambda tmp: 7, "int are not understood"),
        (lambda tmp: (np.zeros((3, 1, 8, 8)), np.zeros(4)), "do not belong together"),
        (lambda tmp: (np.zeros((0, 1, 8, 8)), np.zeros(0)), "do not belong together"),
    ],
)
def test_what_cannot_be_read(make: object, cause: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=cause) as caught:
        as_batches(make(tmp_path))  # type: ignore[operator]
    assert caught.value.cure
    assert caught.value.exit_code == 6


def test_fitting_data_pass() -> None:
    check_fit(tiny_net(), as_batches(digits()))
    assert first_images(as_batches(digits())).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("shape", "labels", "cause"),
    [
        ((4, 3, 8, 8), [0, 1, 2, 3], r"Images of shape 3x8x8 do not fit"),
        ((4, 1, 8, 8), [0, 1, 2, 10], r"Labels from 0 to 10 do not fit the model's 10 classes"),
        ((4, 1, 8, 8), [-1, 1, 2, 3], r"Labels from -1"),
        ((4, 1, 8, 8), [0.5, 1.0, 2.0, 3.0], r"Labels from"),
    ],
)
def test_data_that_do_not_fit(shape: tuple[int, ...], labels: list[float], cause: str) -> None:
    with pytest.raises(DataError, match=cause):
        check_fit(tiny_net(), as_batches((np.zeros(shape, np.float32), np.array(labels))))


def test_only_classifiers() -> None:
    with pytest.raises(DataError, match="not one score for each class"):
        check_fit(torch.nn.Conv2d(1, 4, 3), as_batches(digits()))
