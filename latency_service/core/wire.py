"""The base of every request's body, and the types of its fields.

Whatever arrives is bounded here: numbers are finite and fit the database, texts and lists have a
longest length, and a list with many wrong entries is refused at the first of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

#: Largest integer of the database's ordinary columns.
MAX_INTEGER = 2**31 - 1
MAX_GROUPS = 10_000
MAX_WIDTH = 1_000_000
#: A year: longer than anything that is measured, trained or waited for.
MAX_SECONDS = 366 * 24 * 3600.0
MAX_FACTS = 256


class WireModel(BaseModel):
    """Body of a request, or a part of one. Its floats are finite."""

    model_config = ConfigDict(allow_inf_nan=False)


def finite(value: Any) -> Any:
    """`value` with null for each number that JSON lacks: NaN and the infinities."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value


#: A name, a version, or an id or its beginning.
Name = Annotated[str, Field(max_length=200)]
#: A sentence or two for people.
Sentence = Annotated[str, Field(max_length=1000)]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
#: A duration above zero, s.
Duration = Annotated[float, Field(gt=0, le=MAX_SECONDS)]
#: A count that fits the database.
Count = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
#: An architecture's widths [G].
Widths = Annotated[list[Width], Field(fail_fast=True, max_length=MAX_GROUPS)]
#: What a device tells about itself.
Facts = Annotated[dict[str, Any], Field(max_length=MAX_FACTS)]
