"""Encoded images, decoded on first use."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from pruning_client.errors import DataError

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
#: Function that returns the bytes of the image at a position.
Read = Callable[[int], bytes]


class EncodedImages:
    """N encoded images as one uint8 tensor [N, C, H, W] that is filled as it is indexed.

    The first image determines the number of channels (1 for grey, else 3) and, unless `size` is
    given, the height and width.

    Args:
        read: Function that returns the bytes of the image at a position.
        names: Name of each image for error messages.
        size: Side in pixels of the square to which images are scaled and centrally cropped.

    Raises:
        DataError: An image cannot be decoded, or its size differs from the first one's and no
            `size` is given.
    """

    def __init__(self, read: Read, names: Sequence[str], *, size: int | None = None) -> None:
        self._read = read
        self._names = names
        self._size = size
        first = self._open(0)
        self._mode = "L" if first.mode in ("1", "L", "I;16") else "RGB"
        height, width = (size, size) if size else (first.height, first.width)
        self._pixels = torch.empty(
            (len(names), 1 if self._mode == "L" else 3, height, width), dtype=torch.uint8
        )
        self._is_decoded = torch.zeros(len(names), dtype=torch.bool)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: Tensor) -> Tensor:
        for position in index[~self._is_decoded[index]].tolist():
            self._pixels[position] = self._decode(position)
            self._is_decoded[position] = True
        return self._pixels[index]

    def _decode(self, position: int) -> Tensor:
        image = self._open(position).convert(self._mode)
        height, width = self._pixels.shape[2:]
        if self._size:
            image = ImageOps.fit(image, (self._size, self._size))
        elif (image.height, image.width) != (height, width):
            raise DataError(
                f"{self._names[position]} is {image.width}x{image.height} pixels, the first "
                f"image {width}x{height}.",
                "Give --image-size (`image_size`) to scale and crop all of them.",
            )
        pixels = np.array(image, dtype=np.uint8)
        return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None]).permute(2, 0, 1)

    def _open(self, position: int) -> Image.Image:
        try:
            image = Image.open(io.BytesIO(self._read(position)))
            image.load()
            return image
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise DataError(
                f"{self._names[position]} cannot be decoded: {error}.", "Remove or repair it."
            ) from error


def list_folder(folder: Path) -> tuple[list[Path], list[int], list[str]]:
    """Image files of a folder of class folders, their labels, and the class names in label order.

    Raises:
        DataError: There are no class folders with images.
    """
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    files: list[Path] = []
    labels: list[int] = []
    for label, entry in enumerate(classes):
        found = sorted(file for file in entry.rglob("*") if file.suffix.lower() in SUFFIXES)
        files += found
        labels += [label] * len(found)
    if not files:
        raise DataError(
            f"{folder} holds no class folders with images.",
            "Lay it out as FOLDER/CLASS/IMAGE.png, or give Parquet.",
        )
    return files, labels, [entry.name for entry in classes]
