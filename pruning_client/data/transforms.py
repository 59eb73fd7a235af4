"""Transforms of the user's own: functions of a PIL image, such as torchvision's (v1 and v2)."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pruning_client.errors import DataError

#: A function of a PIL image (grey or RGB) that returns an image or a tensor [C, H, W], uint8 or
#: floating point.
Transform = Callable[[Image.Image], Any]
_SEEDS = 2**32
#: Prime that keeps the seeds of images of different passes apart.
_MIXING = 2_147_483_647


def transformed(
    transform: Transform, image: Image.Image, *, seed: tuple[int, int], name: str
) -> Any:
    """What a transform makes of an image, the same for the same seed.

    Args:
        seed: Seed of the pass and position of the image; the global generators of Python, NumPy and
            torch have it while the transform runs, and go on as before.
        name: What to call the image in a message.

    Raises:
        DataError: The transform fails.
    """
    with _seeded((seed[0] * _MIXING + seed[1]) % _SEEDS):
        try:
            return transform(image)
        except Exception as error:
            raise DataError(
                f"The transform fails on {name}: {type(error).__name__}: {error}.",
                "It is given a PIL image, grey or RGB: let it return an image or a tensor "
                "[C, H, W].",
            ) from error


def as_plain(made: Any) -> Tensor:
    """A tensor that a transform returned, without a class of its own such as `tv_tensors.Image`.

    Raises:
        DataError: It is no tensor [C, H, W] of uint8 or floating point.
    """
    if torch.is_tensor(made) and made.dim() == 3:
        plain = made.as_subclass(Tensor)
        if plain.dtype == torch.uint8:
            return plain
        if plain.is_floating_point():
            return plain.float()
    what = f"{list(made.shape)} of {made.dtype}" if torch.is_tensor(made) else type(made).__name__
    raise DataError(
        f"The transform returns {what}.",
        "Let it return an image, or a tensor [C, H, W] of uint8 or floating point.",
    )


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
