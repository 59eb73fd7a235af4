"""The clusters' patterns as pictures for the report."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from latency_service.core.arrays import Array, Floats, Ints
from pruning_client.methods.base import Picture

#: Maximum number of layers, clusters of each and filters of a cluster.
LAYERS = 4
_CLUSTERS = 10
_FILTERS = 6
#: Least side of a tile, pixels.
_TILE = 24
#: Number of colours of a picture, for small files.
_COLOURS = 64
_KEPT = (0, 114, 178)
_REMOVED = (213, 94, 0)


def shown_groups(count: int) -> list[int]:
    """Groups to show: the first, the last and some between them."""
    return sorted({round(g) for g in np.linspace(0, count - 1, min(count, LAYERS))})


def are_images(patterns: Floats) -> bool:
    """Whether patterns [N, C, ...] can be shown."""
    return patterns.ndim == 4 and patterns.shape[1] in (1, 3)


def picture_of(name: str, patterns: Floats, labels: Ints, kept: Ints) -> Picture:
    """The largest clusters of a layer, one in each row.

    Args:
        patterns: Pattern of each channel [N, 1 or 3, H, W].
        labels: Cluster of each channel [N].
        kept: Channels that are kept.
    """
    sizes = np.bincount(labels)
    largest = np.argsort(-sizes, kind="stable")[:_CLUSTERS]
    rows = []
    for label in largest:
        members = np.flatnonzero(labels == label)[:_FILTERS]
        rows.append(_row([_tile(patterns[m], kept=bool(m in kept)) for m in members]))
    image = Image.fromarray(np.concatenate(rows))
    content = io.BytesIO()
    image.quantize(_COLOURS).save(content, "PNG", optimize=True)
    return Picture(
        title=f"Functions of {name}",
        note=f"Patterns that excite the filters most, one cluster in each row: the {len(largest)} "
        f"largest of {len(sizes)}. Blue frames are kept, orange ones are removed.",
        png=content.getvalue(),
    )


def _row(tiles: Sequence[Array]) -> Array:
    empty = np.full_like(tiles[0], 255)
    return np.concatenate([*tiles, *[empty] * (_FILTERS - len(tiles))], axis=1)


def _tile(pattern: Floats, *, kept: bool) -> Array:
    """A pattern [C, H, W] as an image with a frame [side, side, 3]."""
    spread = 3 * float(pattern.std()) + 1e-12
    grey = np.clip(0.5 + 0.5 * pattern / spread, 0, 1)
    colours = np.broadcast_to(grey, (3, *grey.shape[1:]))
    times = -(-_TILE // max(1, min(grey.shape[1:])))
    large = (255 * colours).astype(np.uint8).transpose(1, 2, 0).repeat(times, 0).repeat(times, 1)
    framed = np.full((large.shape[0] + 4, large.shape[1] + 4, 3), 255, np.uint8)
    framed[1:-1, 1:-1] = _KEPT if kept else _REMOVED
    framed[2:-2, 2:-2] = large
    return framed
