"""Wire schemas of signing in."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


class SignInCodeView(BaseModel):
    """A code that signs a browser in once: open ``/signin?code=CODE``."""

    code: str = Field(description="for one use")
    path: str = Field(description="path and query of the page that takes it")
    expires_at: datetime
