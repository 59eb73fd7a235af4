"""Images in files: as people have them, decoded by workers, augmented in training alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pruning_client.data.file_batches import FileBatches
from pruning_client.data.files import ImageFiles
from pruning_client.data.sources import as_batches, like
from pruning_client.errors import DataError


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    across = np.linspace(0, 255, width)[None].repeat(height, 0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    pixels = np.stack([across, down, np.zeros_like(across)], -1)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog", "eel"):
        (tmp_path / name).mkdir()
        for number in range(8):
            gradient(16, 16).save(tmp_path / name / f"{number}.png")
    return tmp_path


def batches(path: Path, **options: object) -> FileBatches:
    found = as_batches(ImageFiles(path=path, **options), batch_size=6)  # type: ignore[arg-type]
    assert isinstance(found, FileBatches)
    return found


def test_hidden_folders_are_no_classes(folder: Path) -> None:
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (folder / name).mkdir()
        gradient(16, 16).save(folder / name / "0.png")
    (folder / "cat" / "._0.png").write_bytes(b"resource fork")
    data = batches(folder)
    assert data.classes == ("cat", "dog", "eel")
    assert len(data.images) == 24


def test_held_out_classes_are_those_of_the_training_folder(folder: Path, tmp_path: Path) -> None:
    train = batches(folder)
    fewer = tmp_path / "fewer"
    for name in ("dog", "eel"):
        (fewer / name).mkdir(parents=True)
        gradient(16, 16).save(fewer / name / "0.png")
    held_out = like(train, fewer, batch_size=6, names=())
    assert next(iter(held_out.ordered())).target.tolist() == [1, 2]
    (fewer / "fox").mkdir()
    with pytest.raises(DataError, match="the class 'fox', which is not one of cat, dog, eel"):
        like(train, ImageFiles(path=fewer), batch_size=6, names=())


def test_held_out_files_by_path_are_prepared_as_the_training_files(folder: Path) -> None:
    train = batches(folder, image_size=8, mean=(0.5,) * 3, std=(0.25,) * 3)
    held_out = like(train, str(folder), batch_size=6, names=())
    (images,) = next(iter(held_out.ordered())).inputs
    assert images.shape[1:] == (3, 8, 8)
    assert images.min() < 0


def test_classes_in_the_order_of_the_outputs(folder: Path) -> None:
    data = batches(folder, classes=("eel", "dog", "cat", "ant"))
    assert data.images.labels.tolist() == [2] * 8 + [1] * 8 + [0] * 8


def test_training_images_are_augmented_and_held_out_ones_are_not(folder: Path) -> None:
    data = batches(folder)
    same = torch.cat([batch.inputs[0] for batch in data.ordered()])
    assert all(torch.equal(image, same[0]) for image in same)
    one, again, other = (
        torch.cat([batch.inputs[0] for batch in data.shuffled(seed)]) for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert len({image.numpy().tobytes() for image in one}) > 6
    plain = batches(folder, augment=False)
    images = torch.cat([batch.inputs[0] for batch in plain.shuffled(1)])
    assert all(torch.equal(image, same[0]) for image in images)


def test_workers_decode_the_same_images(folder: Path) -> None:
    alone, helped = (
        [batch.inputs[0] for batch in batches(folder, workers=workers).shuffled(3)]
        for workers in (0, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_an_error_in_a_worker_keeps_its_cause_and_cure(folder: Path) -> None:
    (folder / "dog" / "9.png").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"dog/9\.png cannot be decoded") as caught:
        list(batches(folder, workers=1).ordered())
    assert "repair" in caught.value.cure


def test_large_images_are_cropped_to_the_size(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    gradient(120, 80).save(tmp_path / "only" / "0.jpg", quality=95)
    data = batches(tmp_path, image_size=64)
    (whole,) = next(iter(data.ordered())).inputs
    assert whole.shape == (1, 3, 64, 64)
    crops = torch.cat([next(iter(data.shuffled(seed))).inputs[0] for seed in range(20)])
    red = crops[:, 0].mean((1, 2))
    assert red.std() > 0.01
    rises = crops[:, 0, :, -1].mean(1) > crops[:, 0, :, 0].mean(1)
    assert 3 < int(rises.sum()) < 17, "some are flipped"


def test_pictures_of_phones_are_turned(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    gradient(40, 20).save(tmp_path / "only" / "0.jpg", exif=exif, quality=95)
    (image,) = next(iter(batches(tmp_path).ordered())).inputs
    assert image.shape == (1, 3, 40, 20)
    assert image[0, 0, -1].mean() > 0.9, "red grows downwards"


def test_scans_of_sixteen_bits(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "only" / "0.png")
    (image,) = next(iter(batches(tmp_path).ordered())).inputs
    assert image.shape == (1, 1, 8, 8)
    assert image.max() == 1
    assert image.flatten().diff().min() > 0


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "LA", "1"])
def test_modes_of_images(tmp_path: Path, mode: str) -> None:
    (tmp_path / "only").mkdir()
    suffix = "tif" if mode == "CMYK" else "png"
    gradient(16, 16).convert(mode).save(tmp_path / "only" / f"0.{suffix}")
    (image,) = next(iter(batches(tmp_path).ordered())).inputs
    assert image.shape == (1, 1 if mode in ("LA", "1") else 3, 16, 16)
