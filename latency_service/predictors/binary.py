"""Batches of predictions in binary: concatenated little-endian float32 columns.

A request is the widths [B, G], row by row. Its answer is ``latency_ms [B]``, ``lower_ms [B]``,
``upper_ms [B]`` and, where it was asked for, ``gradient [B, G]`` row by row. Both sides know G from
the predictor, so B follows from the length. A float32 holds every whole width exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latency_service.core.arrays import Floats32
from latency_service.core.errors import BadRequest

MEDIA_TYPE = "application/octet-stream"
#: Columns of an answer before the gradient.
COLUMNS = 3
_WIRE = np.dtype("<f4")


@dataclass(frozen=True, kw_only=True)
class BinaryAnswer:
    """Predictions in the order asked. Latencies in ms, gradient in ms per channel."""

    #: Latency and its interval [B], ms.
    latency_ms: Floats32
    lower_ms: Floats32
    upper_ms: Floats32
    #: Gradient [B, G], ms per channel.
    gradient: Floats32 | None


def encode(columns: Sequence[npt.ArrayLike]) -> bytes:
    """The arrays as bytes: concatenated little-endian float32."""
    return b"".join(np.ascontiguousarray(column, _WIRE).tobytes() for column in columns)


def decode_widths(body: bytes, groups: int) -> Floats32:
    """The widths [B, G] of a request.

    Raises:
        BadRequest: the length is not that of whole vectors, there is none, or a width is no number.
    """
    row = groups * _WIRE.itemsize
    if not body or len(body) % row:
        raise BadRequest(
            f"{len(body)} bytes are no whole number of width vectors: {groups} groups make "
            f"{row} bytes each.",
            "Send little-endian float32 widths, one for each group, vector after vector.",
        )
    widths = np.frombuffer(body, _WIRE).astype(np.float32, copy=False).reshape(-1, groups)
    if not np.isfinite(widths).all():
        raise BadRequest("A width is not a finite number.", "Send little-endian float32 widths.")
    return widths


def decode_answer(body: bytes, groups: int, *, gradient: bool) -> BinaryAnswer:
    """The answer to a request.

    Raises:
        ValueError: the length is not that of whole answers.
    """
    row = _WIRE.itemsize * (COLUMNS + (groups if gradient else 0))
    if len(body) % row:
        raise ValueError(f"{len(body)} bytes are no whole number of answers of {row} bytes")
    values = np.frombuffer(body, _WIRE).astype(np.float32)
    count = len(body) // row
    latency, lower, upper = values[: COLUMNS * count].reshape(COLUMNS, count)
    slopes = values[COLUMNS * count :].reshape(count, groups) if gradient else None
    return BinaryAnswer(latency_ms=latency, lower_ms=lower, upper_ms=upper, gradient=slopes)


def join(parts: Sequence[BinaryAnswer]) -> BinaryAnswer:
    """Several answers as one, in their order."""
    slopes = [part.gradient for part in parts if part.gradient is not None]
    return BinaryAnswer(
        latency_ms=np.concatenate([part.latency_ms for part in parts]),
        lower_ms=np.concatenate([part.lower_ms for part in parts]),
        upper_ms=np.concatenate([part.upper_ms for part in parts]),
        gradient=np.concatenate(slopes) if slopes else None,
    )
