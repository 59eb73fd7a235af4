"""Architectures are measured in one job of the service, and the median of the passes counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from latency_service.campaigns.schemas import CampaignRequest
from latency_service.core.client import Client
from latency_service.devices.schemas import RuntimeConfig
from pruning_client.errors import MeasurementFailed
from pruning_client.pipeline.contest.side_by_side import SideBySide
from pruning_client.service.target import DeviceTarget


@dataclass
class Scripted:
    """A service that answers each request with latencies by width and pass."""

    latency_ms: Callable[[int, int], float]
    state: str = "done"
    lost: int | None = None
    requests: list[CampaignRequest] = field(default_factory=list)

    def create_campaign(self, request: CampaignRequest) -> Any:
        self.requests.append(request)
        return SimpleNamespace(id="c1")

    def wait_for_campaign(self, _campaign_id: str, **_more: Any) -> Any:
        return SimpleNamespace(id="c1", state=self.state, failure=None)

    def measurements(self, campaign_id: str) -> list[Any]:
        assert campaign_id == "c1"
        seen: dict[int, int] = {}
        found = []
        for (width,) in self.requests[-1].widths or []:
            seen[width] = seen.get(width, -1) + 1
            if width != self.lost:
                summary = SimpleNamespace(latency_ms=self.latency_ms(width, seen[width]))
                found.append(SimpleNamespace(widths=[width], summary=summary, counted=True))
        return found[::-1]


def measuring(service: Scripted, passes: int = 3) -> SideBySide:
    device = cast(Any, SimpleNamespace(name="board"))
    return SideBySide(
        client=cast(Client, service),
        target=DeviceTarget(device=device, runtime=RuntimeConfig()),
        space_id="s",
        full=(64,),
        passes=passes,
        timeout_seconds=1.0,
    )


def test_the_median_of_the_passes_counts() -> None:
    service = Scripted(lambda width, turn: width * (1.0, 9.0, 1.1)[turn])
    assert measuring(service).measure([(8,), (32,)]) == pytest.approx([70.4, 8.8, 35.2])
    (request,) = service.requests
    assert request.widths == [[64], [8], [32]] * 3
    assert request.batch_size >= 9, "one job, so that they alternate in one process"
    assert request.purpose == "measure"


def test_two_contenders_of_the_same_widths_share_their_latency() -> None:
    service = Scripted(lambda width, turn: float(width))
    assert measuring(service).measure([(8,), (8,)]) == [64.0, 8.0, 8.0]


@pytest.mark.parametrize("more", [{"state": "failed"}, {"lost": 8}])
def test_a_job_that_fails_says_so(more: dict[str, Any]) -> None:
    service = Scripted(lambda width, turn: float(width), **more)
    with pytest.raises(MeasurementFailed, match="side by side"):
        measuring(service).measure([(8,)])
