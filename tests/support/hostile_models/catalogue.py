"""Every kind of hostile file by its name, for search spaces and for delivered models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.support.hostile_models import (
    delivered,
    graphs,
    manifests,
    raw_bytes,
    shapes,
    spellings,
    values,
)

Builder = Callable[[], bytes]

#: Files that are no sound search space, by kind.
SPACES: Mapping[str, Builder] = {
    **raw_bytes.KINDS,
    **graphs.KINDS,
    **manifests.KINDS,
    **shapes.KINDS,
    **spellings.KINDS,
    **values.KINDS,
}
#: Delivered files that the service refuses, by kind.
MODELS: Mapping[str, Builder] = {**raw_bytes.KINDS, **delivered.REFUSED}
#: Delivered files that are valid ONNX, which only running them shows to be hostile.
PASSING_MODELS: Mapping[str, Builder] = delivered.PASSING
