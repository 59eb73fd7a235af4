"""Wire schemas of tokens."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


class EnrolmentView(BaseModel):
    """A token with which agents on other machines register."""

    token: str = Field(description="enrolment token; shown once")
    expires_at: datetime
