"""Wire schemas of runs: pruning runs of the client, recorded beside the measurements that prove
them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class RunRequest(BaseModel):
    name: str = Field(min_length=1, max_length=120)
    method: str
    space_id: str
    predictor_id: str | None
    budget_ms: float = Field(gt=0)
    report: dict[str, Any] = Field(description="the run's report.json")


class RunView(RunRequest):
    id: str
    created_at: datetime
