"""Starting a campaign from a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from latency_service.campaigns.schemas import GOAL_COUNT, USUAL_COUNT, CampaignRequest
from latency_service.core.errors import BadRequest


class SpaceChoice(BaseModel):
    id: str
    name: str


class CampaignFormView(BaseModel):
    """What a campaign can be started with, and what was filled in."""

    spaces: list[SpaceChoice]
    devices: list[str] = Field(description="last seen first")
    filled: dict[str, str]
    problem: str | None = None


#: Fields as they are before anybody has filled them in.
EMPTY: Mapping[str, str] = {
    "space": "",
    "device": "",
    "threads": "1",
    "batch": "1",
    "precision": "fp32",
    "provider": "CPUExecutionProvider",
    "goal": "",
    "minutes": "",
    "count": "",
}
#: What the page says about the number of architectures.
COUNT_HINT = f"{USUAL_COUNT} unless told otherwise, with a goal {GOAL_COUNT} at most"


def request_of(fields: Mapping[str, str]) -> CampaignRequest:
    """The campaign that a form asks for.

    Raises:
        BadRequest: a field cannot be used; the message names it.
    """
    try:
        return CampaignRequest.model_validate(_body(fields))
    except ValidationError as error:
        raise BadRequest(_explain(error), "Correct the field and start the campaign again.") from (
            error
        )


def _body(fields: Mapping[str, str]) -> dict[str, Any]:
    given = {name: fields.get(name, "").strip() for name in EMPTY}
    minutes = _number(given["minutes"], "minutes")
    body: dict[str, Any] = {
        "space_id": given["space"],
        "device": given["device"],
        "runtime": {
            "provider": given["provider"],
            "intra_threads": given["threads"],
            "batch": given["batch"],
            "precision": given["precision"],
        },
        "goal_percent": _number(given["goal"], "goal"),
        "at_most_seconds": None if minutes is None else 60 * minutes,
        "count": given["count"] or None,
    }
    return body


def _number(text: str, name: str) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise BadRequest(f"{name}: {text!r} is no number.", "Give a number.") from error


def _explain(error: ValidationError) -> str:
    found = error.errors()[0]
    return f"{' '.join(str(part) for part in found['loc'])}: {found['msg']}."
