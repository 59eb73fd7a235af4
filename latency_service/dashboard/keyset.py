"""Place in a list that is read a page at a time: when its last row was made, and its id."""

from __future__ import annotations

from datetime import UTC, datetime

from latency_service.core.errors import BadRequest

Key = tuple[datetime, str]


def key_of(created_at: datetime, row_id: str) -> str:
    """The query parameter that leads to the rows after this one."""
    return f"{created_at.astimezone(UTC):%Y%m%dT%H%M%S.%f}-{row_id}"


def as_key(text: str | None) -> Key | None:
    """The place that a query parameter means; None without one.

    Raises:
        BadRequest: it is not a place.
    """
    if not text:
        return None
    moment, _, row_id = text.partition("-")
    try:
        return datetime.strptime(moment, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC), row_id
    except ValueError as error:
        raise BadRequest(
            f"before: {text!r} is not a place in this list.", "Follow the page's own links."
        ) from error
