"""Wire schemas of runs: pruning runs of the client, recorded beside the measurements that prove
them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from latency_service.core.wire import Name, WireModel


class RunRequest(WireModel):
    name: str = Field(min_length=1, max_length=120)
    method: Name
    space_id: Name
    predictor_id: Name | None
    budget_ms: float = Field(gt=0, le=1e9)
    report: dict[str, Any] = Field(description="the run's report.json")


class RunView(RunRequest):
    id: str
    created_at: datetime
