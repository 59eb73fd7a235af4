"""Images in files, given by their path and read where they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
