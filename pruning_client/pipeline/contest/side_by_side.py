"""Architectures measured side by side on a target: in one process, in turn."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from latency_service.campaigns.schemas import CampaignRequest
from latency_service.core.client import Client
from pruning_client.errors import MeasurementFailed
from pruning_client.latency.predictor import Widths
from pruning_client.pipeline.measure import PROTOCOL
from pruning_client.service.target import DeviceTarget

#: Maximum number of architectures in one job of the service.
_LARGEST_JOB = 256


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Measures the full network and others in one job of the service."""

    client: Client
    target: DeviceTarget
    space_id: str
    full: Widths
    #: Number of times that each architecture is measured in the job; the median counts.
    passes: int
    #: Time until a job has to be finished, seconds.
    timeout_seconds: float

    def measure(self, widths: Sequence[Widths]) -> list[float]:
        """Latency in ms [1 + B] of the full network and of `widths` [B][G].

        Raises:
            MeasurementFailed: the device could not measure them.
            Timeout: the job is not finished in time.
        """
        turn = [self.full, *widths]
        found = self._measured(turn)
        return [statistics.median(found[one]) for one in turn]

    def _measured(self, turn: Sequence[Widths]) -> dict[Widths, list[float]]:
        """All latencies of each architecture, ms."""
        campaign_id = self._finished_campaign(turn)
        found = defaultdict[Widths, list[float]](list)
        for measurement in self.client.measurements(campaign_id=campaign_id):
            if measurement.counted:
                found[tuple(measurement.widths or ())].append(measurement.summary.latency_ms)
        missing = set(turn) - found.keys()
        if missing:
            raise self._failure(f"{len(missing)} of {len(turn)} architectures were not measured")
        return found

    def _finished_campaign(self, turn: Sequence[Widths]) -> str:
        passes = max(1, min(self.passes, _LARGEST_JOB // len(turn)))
        request = CampaignRequest(
            space_id=self.space_id,
            device=self.target.device.name,
            runtime=self.target.runtime,
            purpose="measure",
            widths=[list(widths) for _ in range(passes) for widths in turn],
            batch_size=_LARGEST_JOB,
            protocol=PROTOCOL,
        )
        campaign = self.client.create_campaign(request)
        done = self.client.wait_for_campaign(campaign.id, timeout_seconds=self.timeout_seconds)
        if done.state != "done":
            raise self._failure(done.failure or f"the campaign is {done.state}")
        return done.id

    def _failure(self, reason: str) -> MeasurementFailed:
        name = self.target.device.name
        return MeasurementFailed(
            f"The device {name!r} could not measure the networks side by side: {reason}.",
            f"See `latency-service devices show {name}` and the agent's log.",
        )
