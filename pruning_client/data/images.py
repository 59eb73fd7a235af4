"""Encoded images, decoded when they are needed."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from pruning_client.data.augmentation import augmented
from pruning_client.data.transforms import Transform, as_plain, transformed
from pruning_client.errors import DataError

SUFFIXES = (
    ".bmp",
    ".gif",
    ".jfif",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
_GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "F")
#: Largest value of a scanner's 16-bit grey images.
_DEEP = 65535


class Files(Protocol):
    """Encoded images by position; sent to worker processes."""

    def __len__(self) -> int: ...

    def read(self, position: int) -> bytes:
        """Content of an image file."""

    def name(self, position: int) -> str:
        """What to call the image in a message."""

    def windows(self, seed: int | None) -> Tensor:
        """Number of each image's window [N]: a pass reads one window after the other, in the order
        of a seed, or in a fixed one for None.
        """


@dataclass(frozen=True)
class Place:
    """A sample of one pass."""

    position: int
    #: Seed of the augmentation; None for a pass that evaluates.
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How images become tensors of one shape."""

    #: Side in pixels of the square to which images are scaled and centrally cropped.
    size: int | None = None
    #: The user's own transforms; see `ImageFiles`.
    transform: Transform | None = None
    train_transform: Transform | None = None
    #: Channels, 1 for grey or 3; by default those of the first image.
    channels: int | None = None


class EncodedImages(Dataset["tuple[Tensor, int] | DataError"]):
    """Pairs of an image [C, H, W] and its label; images are uint8 unless a transform makes others.

    The first image determines, unless they are given, the number of channels (1 for grey, else 3)
    and the height and width. An image that cannot be used gives the error itself, which worker
    processes cannot raise.

    Args:
        labels: Labels [N].
        preparation: How the images become tensors of one shape.

    Raises:
        DataError: The first image cannot be decoded.
    """

    def __init__(
        self, files: Files, labels: Tensor, preparation: Preparation = Preparation()
    ) -> None:
        self.labels = labels
        self.preparation = preparation
        size = preparation.size
        self._files = files
        first = _open(files, 0)
        self._mode = _mode_of(first, preparation.channels)
        self._shape = (size, size) if size else (first.height, first.width)

    def __len__(self) -> int:
        return len(self._files)

    def windows(self, seed: int | None) -> Tensor:
        """See `Files.windows`."""
        return self._files.windows(seed)

    def __getitem__(self, place: Place) -> tuple[Tensor, int] | DataError:
        try:
            return self._decoded(place), int(self.labels[place.position])
        except DataError as error:
            return error

    def _decoded(self, place: Place) -> Tensor:
        transform = self._transform(place)
        if transform is not None:
            return self.draw(transform, place)
        image = as_mode(_open(self._files, place.position), self._mode)
        height, width = self._shape
        if self.preparation.size is None and (image.height, image.width) != self._shape:
            raise DataError(
                f"{self._files.name(place.position)} is {image.width}x{image.height} pixels, the "
                f"first image {width}x{height}.",
                "Give --image-size (`image_size`) to scale and crop all of them.",
            )
        if place.seed is not None:
            image = augmented(image, self._shape, seed=(place.seed, place.position))
        elif self.preparation.size is not None:
            image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        return _pixels(image)

    def draw(self, transform: Transform, place: Place) -> Tensor:
        """An image as a transform makes it, for the seed of a pass.

        Raises:
            DataError: It cannot be decoded, or the transform fails.
        """
        made = transformed(
            transform,
            as_mode(_open(self._files, place.position), self._mode),
            seed=(place.seed or 0, place.position),
            name=self._files.name(place.position),
        )
        if isinstance(made, Image.Image):
            return _pixels(as_mode(made, self._mode))
        return as_plain(made)

    def _transform(self, place: Place) -> Transform | None:
        own = self.preparation
        return (own.train_transform if place.seed is not None else None) or own.transform


def as_pixels(
    image: Image.Image, *, size: int | None = None, channels: int | None = None
) -> Tensor:
    """A PIL image as a tensor uint8 [C, H, W], grey or RGB, scaled and centrally cropped to a
    square of `size` pixels.

    Args:
        channels: Its channels, 1 or 3; by default those that it has.
    """
    upright = as_mode(ImageOps.exif_transpose(image), _mode_of(image, channels))
    return _pixels(ImageOps.fit(upright, (size, size)) if size else upright)


def _mode_of(image: Image.Image, channels: int | None) -> str:
    """Grey or coloured, as the network takes images; colours are not thrown away."""
    if channels == 3:
        return "RGB"
    if image.mode in _GREY:
        return "L"
    return "L" if channels == 1 and _has_no_colours(image) else "RGB"


def _has_no_colours(image: Image.Image) -> bool:
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")), 2, 0)
    return np.array_equal(red, green) and np.array_equal(green, blue)


def as_mode(image: Image.Image, mode: str) -> Image.Image:
    """An image as grey ("L") or "RGB"; the 16 bits of scanners become 8, and floating point in 0..1
    becomes 0..255.
    """
    if image.mode == "F":
        values = np.asarray(image)
        scale = 255 if values.min() >= 0 and values.max() <= 1 else 1
        image = Image.fromarray((values * scale).clip(0, 255).astype(np.uint8))
    elif image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float32)
        image = Image.fromarray((values * (255 / _DEEP)).clip(0, 255).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)


def _pixels(image: Image.Image) -> Tensor:
    pixels = np.array(image, dtype=np.uint8)
    channels_last = torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None])
    return channels_last.permute(2, 0, 1).contiguous()


def _open(files: Files, position: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(files.read(position)))
        image.load()
        # phones store pictures as the sensor lies, and how to turn them
        ImageOps.exif_transpose(image, in_place=True)
        return image
    except UnidentifiedImageError as error:
        raise DataError(
            f"{files.name(position)} cannot be decoded: it is no image that Pillow knows.",
            "Remove or repair it.",
        ) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{files.name(position)} cannot be decoded: {error}.", "Remove or repair it."
        ) from error


class FolderFiles:
    """Image files of a folder of class folders; paths are held as one block of bytes.

    Attributes:
        labels: Labels [N], positions in `classes`.
        classes: Names of the class folders in the order of the labels.
    """

    def __init__(self, folder: Path, classes: Sequence[str] | None) -> None:
        found = _class_folders(folder)
        self.classes = tuple(classes if classes is not None else found)
        _check_known(folder, found, self.classes)
        self._root = str(folder)
        block = bytearray()
        ends, labels = [], []
        for name in found:
            label = self.classes.index(name)
            for path in _image_files(os.path.join(self._root, name)):
                _check_there(path)
                block += os.fsencode(os.path.relpath(path, self._root))
                ends.append(len(block))
                labels.append(label)
        if not ends:
            raise DataError(
                f"{folder} holds no class folders with images.",
                "Lay it out as FOLDER/CLASS/IMAGE.png, or give Parquet.",
            )
        self._block = bytes(block)
        self._ends = np.array(ends, dtype=np.int64)
        self.labels = torch.tensor(labels)

    def __len__(self) -> int:
        return len(self._ends)

    def read(self, position: int) -> bytes:
        return Path(self.name(position)).read_bytes()

    def name(self, position: int) -> str:
        begin = int(self._ends[position - 1]) if position else 0
        inside = os.fsdecode(self._block[begin : int(self._ends[position])])
        return os.path.join(self._root, inside)

    def windows(self, seed: int | None) -> Tensor:
        """All images are one window: each is read on its own."""
        return torch.zeros(len(self), dtype=torch.int64)


def _class_folders(folder: Path) -> list[str]:
    """Names of the folders that are not hidden (such as .ipynb_checkpoints)."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not _is_hidden(e.name))


def _is_hidden(name: str) -> bool:
    """Whether a folder is no class but left there by a tool."""
    return name.startswith(".") or name in ("__pycache__", "__MACOSX")


def _check_there(path: str) -> None:
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}.", "Remove or repair it, or fetch its target."
        ) from error
    if not size:
        raise DataError(f"{path} is empty.", "Remove or repair it.")


def _image_files(folder: str) -> list[str]:
    found = []
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        # a link may lead back to a folder above
        place = os.path.realpath(root)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = [name for name in folders if not _is_hidden(name)]
        found += [
            os.path.join(root, name)
            for name in files
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found)


def _check_known(folder: Path, found: Sequence[str], classes: Sequence[str]) -> None:
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise DataError(
            f"{folder} holds the class {unknown[0]!r}, which is not one of {', '.join(classes)}.",
            "Name its folder as in the training data, or take it away.",
        )
