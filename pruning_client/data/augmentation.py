"""The usual augmentation for classification: a random crop, and a random flip of colour images."""

from __future__ import annotations

import math

import torch
from PIL import Image, ImageOps
from torch import Tensor

#: Images up to this side are shifted, as is usual for CIFAR; larger ones are cropped and resized.
_SMALL = 64
#: Shift of small images, as a share of their side.
_SHIFT = 1 / 8
#: Area of a crop, as a share of the image, and its aspect ratio (Szegedy et al., 2015).
_AREA = (0.25, 1.0)
_RATIO = (3 / 4, 4 / 3)
#: Prime that keeps the seeds of images of different passes apart.
_MIXING = 2_147_483_647


def augmented(image: Image.Image, shape: tuple[int, int], *, seed: tuple[int, int]) -> Image.Image:
    """A random crop of an image, scaled to [H, W], the same for the same seed.

    Colour images are flipped from left to right with a probability of a half; grey ones are not,
    since they are often characters.

    Args:
        seed: Seed of the pass and position of the image.
    """
    mixed = (seed[0] * _MIXING + seed[1]) % 2**63
    random = torch.rand(5, generator=torch.Generator().manual_seed(mixed))
    height, width = shape
    if (image.height, image.width) == shape and max(shape) <= _SMALL:
        made = _shifted(image, random)
    else:
        made = image.resize((width, height), Image.Resampling.BILINEAR, box=_box(image, random))
    return ImageOps.mirror(made) if image.mode == "RGB" and random[4] < 0.5 else made


def _shifted(image: Image.Image, random: Tensor) -> Image.Image:
    """The image moved by up to an eighth of its side, with black borders."""
    moves = [
        round((2 * float(r) - 1) * _SHIFT * side)
        for r, side in zip(random[:2], (image.width, image.height), strict=True)
    ]
    return image.transform(image.size, Image.Transform.AFFINE, (1, 0, moves[0], 0, 1, moves[1]))


def _box(image: Image.Image, random: Tensor) -> tuple[float, float, float, float]:
    """A random part of the image: left, upper, right and lower edge."""
    area = image.width * image.height * (_AREA[0] + float(random[0]) * (_AREA[1] - _AREA[0]))
    low, high = (math.log(ratio) for ratio in _RATIO)
    ratio = math.exp(low + float(random[1]) * (high - low))
    width = min(math.sqrt(area * ratio), image.width)
    height = min(math.sqrt(area / ratio), image.height)
    left = float(random[2]) * (image.width - width)
    upper = float(random[3]) * (image.height - height)
    return left, upper, left + width, upper + height
