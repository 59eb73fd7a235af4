"""The user's own transforms of images in files, and data sets whose samples torchvision made."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pruning_client.data.file_batches import FileBatches
from pruning_client.data.files import ImageFiles
from pruning_client.data.images import Place
from pruning_client.data.sources import as_batches, like
from pruning_client.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(8):
            across = np.linspace(0, 255, 12)[None, :, None].repeat(10, 0).repeat(3, 2)
            image = Image.fromarray(across.astype(np.uint8))
            image.save(tmp_path / name / f"{number}.png")
    return tmp_path


def batches(path: Path, **options: Any) -> FileBatches:
    found = as_batches(ImageFiles(path=path, **options), batch_size=8)
    assert isinstance(found, FileBatches)
    return found


def images(passed: Any) -> Tensor:
    return torch.cat([batch.inputs[0] for batch in passed])


def resized(image: Image.Image) -> Image.Image:
    return image.resize((8, 8))


def flips(image: Image.Image) -> Image.Image:
    """At random, with the generators of Python, NumPy and torch."""
    image = resized(image)
    draws = random.random(), np.random.rand(), float(torch.rand(()))
    return ImageOps.mirror(image) if sum(draws) < 1.5 else image


def as_floats(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(resized(image))).permute(2, 0, 1).float() / 255
    return (pixels - 0.5) / 0.25


def test_each_pass_has_its_transform(folder: Path) -> None:
    data = batches(folder, train_transform=flips, transform=resized)
    held_out = images(data.ordered())
    assert held_out.shape == (16, 3, 8, 8)
    assert torch.equal(held_out, held_out[:1].expand_as(held_out))
    state = torch.get_rng_state()
    assert data.images[Place(0, 1)]
    assert torch.equal(torch.get_rng_state(), state), "the training's own numbers stay as they are"
    trained = images(data.shuffled(1))
    assert torch.equal(trained, images(data.shuffled(1)))
    assert not torch.equal(trained, images(data.shuffled(2)))
    rises = trained[:, 0, 0, -1] > trained[:, 0, 0, 0]
    assert 2 < int(rises.sum()) < 14
    helped = batches(folder, train_transform=flips, transform=resized, workers=2)
    assert torch.equal(trained, images(helped.shuffled(1)))


def test_floating_point_is_used_as_it_is(folder: Path) -> None:
    data = batches(folder, transform=as_floats)
    for found in (images(data.ordered()), images(data.shuffled(0))):
        assert found.min() < -1.5
        assert found.max() > 1.5
    with pytest.raises(DataError, match="mean and std are given"):
        list(batches(folder, transform=as_floats, mean=(0.5,) * 3, std=(0.5,) * 3).ordered())
    with pytest.raises(DataError, match="held-out images have none") as caught:
        list(batches(folder, train_transform=as_floats).ordered())
    assert "`transform`" in caught.value.cure


def test_integers_are_scaled_and_normalised(folder: Path) -> None:
    data = batches(folder, transform=resized, mean=(0.5,) * 3, std=(0.5,) * 3)
    found = images(data.ordered())
    assert -1 <= found.min() < -0.8
    assert 0.8 < found.max() <= 1


def test_held_out_images_are_not_augmented(folder: Path) -> None:
    with pytest.raises(DataError, match="other images each time") as caught:
        batches(folder, transform=flips).split(0.25, 0)
    assert "train_transform" in caught.value.cure
    train, held_out = batches(folder, train_transform=flips, transform=resized).split(0.25, 0)
    assert len(images(train.ordered())) == 12
    assert len(images(held_out.ordered())) == 4
    with pytest.raises(DataError, match="other images each time"):
        like(train, ImageFiles(path=folder, transform=flips), batch_size=8, names=())


def test_held_out_files_by_path_have_the_transform(folder: Path) -> None:
    train = batches(folder, train_transform=flips, transform=as_floats)
    held_out = like(train, str(folder), batch_size=8, names=())
    assert images(held_out.ordered()).min() < -1.5


@pytest.mark.parametrize(
    ("transform", "cause"),
    [
        (lambda image: image.missing, "The transform fails on .*png: AttributeError"),
        (lambda image: 7, "The transform returns int"),
        (lambda image: torch.zeros(3), r"returns \[3\] of torch.float32"),
        (lambda image: torch.zeros(3, 2, 2).long(), r"of torch.int64"),
    ],
)
def test_a_transform_that_cannot_be_used(folder: Path, transform: Any, cause: str) -> None:
    with pytest.raises(DataError, match=cause) as caught:
        list(batches(folder, transform=transform).ordered())
    assert "[C, H, W]" in caught.value.cure


def test_images_of_different_shapes_are_refused(folder: Path) -> None:
    Image.new("RGB", (20, 9)).save(folder / "dog" / "9.png")
    with pytest.raises(DataError, match="different shapes") as caught:
        list(batches(folder, transform=lambda image: image).ordered())
    assert "resize" in caught.value.cure


class Scenes(Dataset[Any]):
    """Images with masks and boxes, and a transform of both."""

    def __init__(self, transform: Any, tv_tensors: Any) -> None:
        self.transform = transform
        self.tv = tv_tensors

    def __len__(self) -> int:
        return 12

    def __getitem__(self, at: int) -> Any:
        image = self.tv.Image(torch.full((3, 16, 16), at, dtype=torch.uint8))
        mask = self.tv.Mask(torch.ones(16, 16, dtype=torch.uint8))
        box = self.tv.BoundingBoxes(torch.ones(1 + at % 2, 4), format="XYXY", canvas_size=(16, 16))
        return self.transform(image, {"mask": mask, "boxes": box})


def test_torchvision(folder: Path) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    v2 = pytest.importorskip("torchvision.transforms.v2")
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    steps = {
        v2: [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)],
        transforms: [transforms.ToTensor()],
    }
    for kind, ending in steps.items():
        last = [*ending, kind.Normalize((0.5,) * 3, (0.25,) * 3)]
        data = batches(
            folder,
            train_transform=kind.Compose(
                [kind.RandomResizedCrop(8), kind.RandomHorizontalFlip(), *last]
            ),
            transform=kind.Compose([kind.Resize(9), kind.CenterCrop(8), *last]),
        )
        held_out, trained = images(data.ordered()), images(data.shuffled(1))
        assert held_out.shape == trained.shape == (16, 3, 8, 8)
        assert held_out.min() < -1
        assert torch.equal(trained, images(data.shuffled(1)))
        assert not torch.equal(trained, images(data.shuffled(2)))
        assert type(trained) is Tensor

    joint = v2.Compose([v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])
    loader = DataLoader(
        Scenes(joint, tv_tensors),
        batch_size=4,
        collate_fn=lambda samples: (torch.stack([x for x, _ in samples]), [y for _, y in samples]),
    )
    batch = next(iter(as_batches(loader).ordered()))
    assert batch.inputs[0].shape == (4, 3, 16, 16)
    moved = batch.to(torch.device("cpu")).part(slice(1, 3))
    assert [len(y["boxes"]) for y in moved.target] == [2, 1]
