"""Images in files, given by their path and read where they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pruning_client.data.transforms import Transform


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """A folder of class folders, a Parquet file, or a folder of Parquet files."""

    path: Path
    #: Side in pixels of the square to which images are scaled and cropped.
    image_size: int | None = None
    #: Mean of each channel, for images in 0..1.
    mean: tuple[float, ...] | None = None
    #: Standard deviation of each channel.
    std: tuple[float, ...] | None = None
    #: Names of the class folders in the order of the network's outputs; by default the folders in
    #: alphabetical order.
    classes: tuple[str, ...] | None = None
    #: What is done to every image in place of `image_size`: a function of a PIL image, such as a
    #: transform of torchvision, that returns an image or a tensor [C, H, W]. uint8 is scaled to
    #: 0..1 and normalised as usual, floating point is used as it is.
    transform: Transform | None = None
    #: What is done to training images instead, in place of the ready augmentation.
    train_transform: Transform | None = None
    #: Whether training images are cropped at random, and flipped if they have colours; not with a
    #: transform.
    augment: bool = True
    #: Processes that decode images; by default as many as processors, up to 8.
    workers: int | None = None
