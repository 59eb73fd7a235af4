"""Architectures that a campaign measures per minute, and the share of its time in timed runs.

A whole service with its agent, as `latency-service up` starts it, and a campaign over architectures
of ResNet-20, from its request to its last measurement. Beside it the usual pipeline on a few of the
same architectures: prune the torch model, `torch.onnx.export` (its faster exporter), a session, ten
runs to warm up, the median of fifty.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from benchmarks.cases.materialise import export
from benchmarks.support.harness import Outcome, at_least
from benchmarks.support.networks import resnet20
from benchmarks.support.peers import MEDIAN_RUNS, session_of, time_runs
from benchmarks.support.subjects import subjects
from latency_service.agent.measuring.sessions import random_feeds
from latency_service.campaigns.schemas import CampaignRequest, CampaignView
from latency_service.core.client import Client
from latency_service.measurements.schemas import MeasurementView
from latency_service.spaces.slicing import SearchSpace
from pruning_client.graph import proof
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim
from pruning_client.service.embedded import Embedded, embedded_service


def run(quick: bool) -> Outcome:
    """128 architectures and 8 of them exported; quick: 6 and 2."""
    count, exported = (6, 2) if quick else (128, 8)
    space, widths = subjects(resnet20, count)
    with tempfile.TemporaryDirectory() as folder, embedded_service(Path(folder)) as service:
        found = _campaign(service, space, widths)
    usual = 60 / _usual_seconds(widths[:exported])
    return Outcome(
        bars=[
            at_least("wall time of the campaign inside timed runs", found.timed_percent, 70, "%"),
            at_least("architectures measured to 1 % a minute", found.per_minute, 60, "a minute"),
        ],
        rows=[
            {"way": "this service", "architectures a minute": f"{found.per_minute:.0f}"},
            {"way": "torch export, 50 runs", "architectures a minute": f"{usual:.1f}"},
            {"way": "ratio", "architectures a minute": f"{found.per_minute / usual:.1f}"},
        ],
        data={
            **found.data,
            "usual_per_minute": usual,
            "ratio": found.per_minute / usual,
        },
    )


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A finished campaign: its measurements and where its time went."""

    rows: Sequence[MeasurementView]
    wall_seconds: float
    timed_seconds: float

    @property
    def precise(self) -> int:
        """Number of architectures measured to the requested interval."""
        return sum(row.summary.verdict == "ok" for row in self.rows)

    @property
    def per_minute(self) -> float:
        return 60 * self.precise / self.wall_seconds

    @property
    def timed_percent(self) -> float:
        return 100 * self.timed_seconds / self.wall_seconds

    @property
    def data(self) -> dict[str, Any]:
        return {
            "architectures": len(self.rows),
            "precise": self.precise,
            "wall_seconds": self.wall_seconds,
            "timed_seconds": self.timed_seconds,
            "per_minute": self.per_minute,
            "latency_ms": sorted(row.summary.latency_ms for row in self.rows),
            "quiet_share": statistics.fmean(row.summary.quiet_share for row in self.rows),
        }


def _campaign(service: Embedded, space: SearchSpace, widths: Sequence[Sequence[int]]) -> Campaign:
    client = service.client
    view = client.create_space(space)
    # the first job of a target calibrates its canaries: once in its life, not once a campaign
    _measured(client, _request(view.id, service.device, widths[:2]))
    campaign = _measured(client, _request(view.id, service.device, widths))
    rows = client.measurements(campaign_id=campaign.id)
    jobs = [client.job(job_id) for job_id in {row.job_id for row in rows}]
    assert campaign.finished_at is not None
    return Campaign(
        rows=rows,
        wall_seconds=(campaign.finished_at - campaign.created_at).total_seconds(),
        timed_seconds=sum(a.timed_seconds or 0.0 for job in jobs for a in job.attempts),
    )


def _request(space_id: str, device: str, widths: Sequence[Sequence[int]]) -> CampaignRequest:
    return CampaignRequest(
        space_id=space_id,
        device=device,
        purpose="measure",
        widths=[list(row) for row in widths],
        repeats=0,
    )


def _measured(client: Client, request: CampaignRequest) -> CampaignView:
    return client.wait_for_campaign(client.create_campaign(request).id, timeout_seconds=1800)


def _usual_seconds(widths: Sequence[Sequence[int]]) -> float:
    """Mean seconds for one architecture in the usual pipeline."""
    model, example = resnet20()
    twin = proof.redrawn(model)
    traced = make_space(twin, example)
    began = time.perf_counter()
    for row in widths:
        small = slim(twin, traced, [np.arange(width) for width in row])
        graph = onnx.load_model_from_string(export(small, example, dynamo=False))
        feeds = random_feeds(graph, 0)
        with torch.no_grad():
            statistics.median(time_runs(session_of(graph), feeds, MEDIAN_RUNS))
    return (time.perf_counter() - began) / len(widths)
